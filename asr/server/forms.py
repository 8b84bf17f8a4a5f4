"""Forms with an upload, read in bounded memory: only the file may be large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from asr.server.errors import RequestError

_MOST_FIELDS = 1_100
_FIELD_BYTES = 2**16  # of one field
_FORM_BYTES = 2**17  # of all fields and headers of parts; they stay in memory


@asynccontextmanager
async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The fields of a form and at most one file, which is closed after the block.

    Raises:
        RequestError: the request is no form in UTF-8, or what stands beside the file is too large.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    if kind.strip().lower() != b"multipart/form-data":
        raise RequestError(415, "the request must be a form: Content-Type: multipart/form-data")
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):  # else clients choose Python's codec
        raise RequestError(415, "the form must be in UTF-8, without another charset")
    parser = _Parser(
        request.headers, request.stream(), max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, f"the form cannot be read: {error.message}") from None
    try:
        yield form
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """Starlette's parser, which limits each field but not their sum."""

    _room = _FORM_BYTES

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._spend(end - start)
        super().on_part_data(data, start, end)

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        super().on_header_value(data, start, end)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise MultiPartException(f"its fields must have at most {_FORM_BYTES} bytes in all, without the file")
