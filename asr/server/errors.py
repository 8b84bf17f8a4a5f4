"""The errors that a client gets, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RequestError(Exception):
    """A request that the server refuses.

    Args:
        status: of HTTP.
        message: what must hold, and what came.
        param: name of the wrong field.
        code: a word for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer: OpenAI's error object."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def unknown_model(given: Any, models: Sequence[str], *, param: str = "model") -> RequestError:
    """The error for a name that is none of the model's."""
    message = f"model must be {' or '.join(models)}, not {str(given)[:80]!r}; asr-serve --aliases accepts other names"
    return RequestError(404, message, param=param, code="model_not_found")
