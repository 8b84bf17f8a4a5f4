"""The application: its paths, and what they share while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from re import DOTALL, findall
from typing import Any, BinaryIO, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asr.errors import AsrError
from asr.recognition.recognizer import Recognizer
from asr.server import metrics, transcriptions
from asr.server.access import TRANSCRIPTIONS, Access, error_response
from asr.server.connection import Hearing
from asr.server.errors import RequestError, unknown_model
from asr.server.forms import read_form
from asr.server.live import hear_live
from asr.server.options import ServeOptions
from asr.server.realtime import hear_realtime
from asr.server.sound import Sound, read_sound
from asr.server.transcriptions import TranscriptionRequest
from asr.server.workers import Job, Workers
from asr.text.segments import TextSegment
from asr.text.transcript import join_texts

_THREADS = 2  # for live speech, and as many to decode uploads
Value = TypeVar("Value")


class Application:
    """An ASGI application: `asr-serve` without its socket.

        application = Application(asr.load("an4"), ServeOptions())
        uvicorn.run(application)

    Args:
        recognizer: with the model, and the decoding that requests add hotwords to.
        options: its limits and names; where to listen is not for the application.
    """

    def __init__(self, recognizer: Recognizer, options: ServeOptions):
        self.options, self.recognizer = options, recognizer
        self.metrics = metrics.Metrics()
        self.workers = Workers(recognizer, self.metrics, batch_size=options.batch_size)
        self._decoding = ThreadPoolExecutor(_THREADS, thread_name_prefix="asr-sound")
        self._hearing = ThreadPoolExecutor(_THREADS, thread_name_prefix="asr-live")
        self.closing = asyncio.Event()  # set, live speakers get their last text
        self._created = int(time.time())
        self.access = Access(
            self._routes(), options=options, metrics=self.metrics, seconds_owed=self.workers.seconds_owed
        )
        lanes = self.workers.lanes
        self.metrics.gauges = {
            "asr_requests": ("Requests that are accepted and not answered.", lambda: self.access.num_requests),
            "asr_live_speakers": ("Live speakers.", lambda: self.access.num_live),
            "asr_waiting_short": ("Recordings of up to a minute that wait.", lambda: lanes["short"].waiting),
            "asr_waiting_long": ("Longer recordings that wait.", lambda: lanes["long"].waiting),
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.access(scope, receive, send)

    @property
    def language(self) -> str:
        """Of the model, such as `en`; empty if unknown."""
        language = getattr(self.recognizer.model.text, "language", "")
        return "" if language == "und" else language

    @property
    def model_names(self) -> tuple[str, ...]:
        """What clients may call the model; its own name is first."""
        return tuple(dict.fromkeys((self.recognizer.model.name or "asr", *self.options.aliases)))

    def close(self) -> None:
        """Finish what is accepted, and end the threads."""
        self.workers.close()
        self._decoding.shutdown()
        self._hearing.shutdown()

    def _routes(self) -> Starlette:
        application = Starlette(
            routes=[
                Route("/", show_page),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route(TRANSCRIPTIONS, self._transcribe, methods=["POST"]),
                WebSocketRoute("/", self._hear),
                WebSocketRoute("/v1/realtime", self._hear_realtime),
            ],
            exception_handlers={
                RequestError: _refuse,
                HTTPException: _refuse_http,
                FormParserError: _refuse_form,
                ClientDisconnect: _part,
                OSError: _lack_room,
                Exception: _fail,
            },
        )
        application.router.redirect_slashes = False  # its redirections would trust the client's Host
        return application

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "closing" if self.closing.is_set() else "ok", "model": self.model_names[0]})

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": list(map(self._described, self.model_names))})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.model_names:
            raise unknown_model(name, self.model_names)
        return JSONResponse(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "asr"}

    async def _hear(self, websocket: WebSocket) -> None:
        await hear_live(websocket, self._new_hearing(), self.options, self.closing)

    async def _hear_realtime(self, websocket: WebSocket) -> None:
        await hear_realtime(
            websocket,
            self._new_hearing(),
            self.options,
            self.closing,
            models=self.model_names,
            language=self.language,
        )

    def _new_hearing(self) -> Hearing:
        return Hearing(self.options, self.workers.vocabularies, self._hearing, self.metrics)

    async def _transcribe(self, request: Request) -> Response:
        """Read a request, recognise its sound, and answer."""
        async with read_form(request) as form:
            wanted = transcriptions.read_request(form, models=self.model_names, language=self.language)
            notes = await self._expect(wanted.hotwords)
            sound = await self._read(wanted.file.file, request)
        job = Job(sound=sound, hotwords=wanted.hotwords)
        if wanted.stream:
            return StreamingResponse(
                self._events(job, wanted), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        self.workers.submit(job)
        try:
            transcript = await _unless_gone(asyncio.wrap_future(job.result), request)
        except AsrError as error:
            raise RequestError(400, str(error)) from error
        finally:
            job.result.cancel()
        self.metrics.sound("file", sound.seconds)
        return transcriptions.answer(transcript, wanted, language=self.language, notes=(*notes, *sound.notes))

    async def _expect(self, hotwords: tuple[str, ...]) -> tuple[str, ...]:
        """Notes about the hotwords of a request.

        Raises:
            RequestError: none can be spelled.
        """
        try:
            _, notes = await asyncio.to_thread(self.workers.vocabularies.expecting, hotwords)
        except AsrError as error:
            raise RequestError(400, f"prompt: {error}", param="prompt") from error
        return notes

    async def _read(self, file: BinaryIO, request: Request) -> Sound:
        """The samples of an upload.

        Raises:
            RequestError: it is not sound, or too long.
            ClientDisconnect: nobody waits for them; the thread is free for others at its next block.
        """
        is_left = threading.Event()

        def read() -> Sound:
            options = self.options
            return read_sound(
                file,
                self.recognizer.model.sample_rate,
                max_seconds=options.max_seconds,
                work_seconds=options.upload_seconds,
                is_left=is_left.is_set,
            )

        try:
            return await _unless_gone(asyncio.get_running_loop().run_in_executor(self._decoding, read), request)
        except AsrError as error:
            raise RequestError(400, f"file {error}", param="file", code="invalid_file") from error
        finally:
            is_left.set()

    async def _events(self, job: Job, wanted: TranscriptionRequest) -> AsyncIterator[bytes]:
        """The server-sent events of a transcription: a delta for each segment, and the whole text."""
        loop, segments = asyncio.get_running_loop(), asyncio.Queue[TextSegment | None]()
        job.on_segment = lambda segment: _tell(loop, segments, segment)
        job.result.add_done_callback(lambda _: _tell(loop, segments, None))
        self.workers.submit(job)
        text = ""
        try:
            while (segment := await segments.get()) is not None:
                longer = join_texts((text, segment.text))
                words = {"logprobs": transcriptions.logprobs(segment.words)} if wanted.logprobs else {}
                yield transcriptions.event("transcript.text.delta", delta=longer[len(text) :], **words)
                text = longer
            transcript = job.result.result()
        except Exception as error:
            status, message = (400, str(error)) if isinstance(error, AsrError) else (500, "the recogniser failed")
            yield transcriptions.event("error", **RequestError(status, message).document)
            return
        finally:
            job.result.cancel()
        self.metrics.sound("file", job.sound.seconds)
        words = {"logprobs": transcriptions.logprobs(transcript.words)} if wanted.logprobs else {}
        yield transcriptions.event(
            "transcript.text.done", text=transcript.text, **words, **transcriptions.usage(transcript)
        )


def _tell(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any], value: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
        loop.call_soon_threadsafe(queue.put_nowait, value)


async def _unless_gone(result: Awaitable[Value], request: Request) -> Value:
    """The result, unless the client goes first.

    Raises:
        ClientDisconnect: it did.
    """
    waiting, leaving = asyncio.ensure_future(result), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        raise ClientDisconnect
    finally:
        leaving.cancel()
        waiting.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def show_page(request: Request) -> Response:
    """The page, with a policy that lets it do nothing but what it holds."""
    page, policy = _page()
    return HTMLResponse(
        page,
        headers={
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            "Cache-Control": "no-cache",
        },
    )


@cache
def _page() -> tuple[str, str]:
    """The page, and its Content-Security-Policy, which names its script and its style by their hashes."""
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    hashes = {
        tag: " ".join(
            f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
            for text in findall(rf"<{tag}>(.*?)</{tag}>", page, DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {hashes['script']} blob:; style-src {hashes['style']}; connect-src 'self'; "
        "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


def _refuse_http(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, another method, a form that cannot be read."""
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow")
    message = f"{request.method} {request.url.path}: {error.detail}{f', use {allowed}' if allowed else ''}"
    return error_response(RequestError(error.status_code, message, headers=error.headers))


def _refuse_form(request: Request, error: Exception) -> Response:
    """A body that is no form; later releases of Starlette refuse it by themselves."""
    return error_response(RequestError(400, f"the form cannot be read: {error}"))


def _lack_room(request: Request, error: Exception) -> Response:
    """The disk is full, or the process may open no more files."""
    logging.getLogger("uvicorn.error").error("an upload cannot be stored: %s", error)
    return error_response(RequestError(503, "the server has no room for the file; try again later"))


def _part(request: Request, error: Exception) -> Response:
    """To a client that left; nobody gets it, but it is counted, by the number that nginx uses."""
    return Response(status_code=499)


def _fail(request: Request, error: Exception) -> Response:
    return error_response(RequestError(500, "the server failed; its log has the reason"))
