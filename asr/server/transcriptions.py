"""OpenAI's `POST /v1/audio/transcriptions`: the fields of a request, and the forms of an answer.

Source: OpenAI, "API Reference", Audio, Create transcription.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, PlainTextResponse, Response

from asr.decoding.options import ends_with_time
from asr.output.formats import to_srt, to_txt, to_vtt
from asr.output.subtitles import milliseconds
from asr.server.errors import RequestError, unknown_model
from asr.text.segments import TextSegment, find_segments
from asr.text.transcript import Transcript, Word

Format = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["word", "segment"]

# Fields that have no meaning here: they steer OpenAI's models.
_WITHOUT_EFFECT = ("temperature", "chunking_strategy")
_LISTS = ("timestamp_granularities", "include", "keywords", "languages")
_FIELDS = ("file", "model", "language", "prompt", "response_format", "stream", *_LISTS, *_WITHOUT_EFFECT)
_PROMPT_CHARACTERS, _MOST_PHRASES = 8_192, 500
# A match begins at the first mark of a run only: trying each would take quadratic time.
_BETWEEN_PHRASES = re.compile(r"[,;\n\r，、；。]+|(?<![.!?])[.!?]+(?=\s|$)")
_TEXTS = {"text": to_txt, "srt": to_srt, "vtt": to_vtt}


@dataclass(frozen=True, kw_only=True)
class TranscriptionRequest:
    """What a client wants to know of a recording.

    Args:
        hotwords: words and phrases to expect, perhaps with weights: `WORD:NATS`.
        granularities: of times, in verbose_json.
        logprobs: whether JSON has the log-probability of each word.
    """

    file: UploadFile
    format: Format = "json"
    hotwords: tuple[str, ...] = ()
    granularities: frozenset[Granularity] = frozenset(("segment",))
    stream: bool = False
    logprobs: bool = False


def read_request(form: FormData, *, models: Sequence[str], language: str) -> TranscriptionRequest:
    """The request in a form.

    Args:
        models: names of the model that clients may give.
        language: of the model, such as `en` or `en-US`; empty if unknown.
    Raises:
        RequestError: a field is missing, unknown or wrong.
    """
    for name in form:
        if name.removesuffix("[]") not in _FIELDS:
            raise RequestError(
                400, f"unknown field {name[:80]!r}; known are {', '.join(_FIELDS)}", code="unknown_field"
            )
    file = form.get("file")
    if not isinstance(file, UploadFile):
        came = "text" if file else "nothing"
        raise RequestError(400, f"file must be an uploaded sound file; got {came}", param="file")
    model = _text(form, "model")
    if model is not None and model not in models:
        raise unknown_model(model, models)
    check_language([*_list(form, "languages"), *filter(None, [_text(form, "language")])], language)
    format_ = _choice(form, "response_format", get_args(Format), default="json")
    granularities = _list(form, "timestamp_granularities")
    for name in granularities:
        if name not in get_args(Granularity):
            raise RequestError(
                400,
                f"timestamp_granularities[] must be word or segment, not {name[:80]!r}",
                param="timestamp_granularities[]",
            )
    if granularities and format_ != "verbose_json":
        raise RequestError(
            400,
            f"timestamp_granularities[] needs response_format verbose_json, not {format_}",
            param="timestamp_granularities[]",
        )
    is_stream = _choice(form, "stream", ("true", "false", "True", "False", "1", "0"), default="false")
    stream = is_stream in ("true", "True", "1")
    if stream and format_ not in ("json", "text"):
        raise RequestError(400, f"stream needs response_format json or text, not {format_}", param="stream")
    include = _list(form, "include")
    if wrong := [name for name in include if name != "logprobs"]:
        raise RequestError(400, f"include[] must be logprobs, not {wrong[0][:80]!r}", param="include[]")
    if include and format_ != "json":
        raise RequestError(400, f"include[] needs response_format json, not {format_}", param="include[]")
    return TranscriptionRequest(
        file=file,
        format=format_,  # type: ignore[arg-type]
        hotwords=hotwords_of(_text(form, "prompt") or "", _list(form, "keywords")),
        granularities=frozenset(granularities or ["segment"]),  # type: ignore[arg-type]
        stream=stream,
        logprobs=bool(include),
    )


def hotwords_of(prompt: str, keywords: Sequence[str] = ()) -> tuple[str, ...]:
    """The words and phrases of a prompt, which commas, lines and ends of sentences divide, and the keywords.

    A phrase may end in a weight, as in `KUBERNETES:8`; another colon, and that of 12:30, is a space. An @ never begins
    one, as it does in options, where it names a file.

    Raises:
        RequestError: they are too many or too long.
    """
    phrases = [*_BETWEEN_PHRASES.split(prompt), *keywords]
    if sum(map(len, phrases)) > _PROMPT_CHARACTERS or len(phrases) > _MOST_PHRASES:
        raise RequestError(
            400,
            f"prompt must have at most {_PROMPT_CHARACTERS} characters and {_MOST_PHRASES} phrases; "
            f"it has {sum(map(len, phrases))} and {len(phrases)}",
            param="prompt",
        )
    return tuple(dict.fromkeys(filter(None, map(_hotword, phrases))))


def _hotword(phrase: str) -> str:
    text, colon, weight = phrase.strip().rpartition(":")
    if colon and re.fullmatch(r"\s*\d{1,3}(?:\.\d{1,6})?\s*", weight) and not ends_with_time(phrase.strip()):
        text, weight = _plain(text), f":{weight.strip()}"
        return text + weight if text else ""
    return _plain(phrase)


def _plain(phrase: str) -> str:
    return " ".join(phrase.replace(":", " ").strip(" \t\"'“”«»()@.!?").split())


def answer(
    transcript: Transcript, wanted: TranscriptionRequest, *, language: str, notes: Sequence[str] = ()
) -> Response:
    """The answer with the transcript in the form that the request wants.

    Args:
        language: of the model; empty if unknown.
        notes: what was repaired or left out; JSON has them as `warnings`.
    """
    if wanted.format in _TEXTS:
        return PlainTextResponse(_TEXTS[wanted.format](transcript))
    document: dict[str, Any] = {"text": transcript.text, **usage(transcript)}
    if wanted.logprobs:
        document["logprobs"] = logprobs(transcript.words)
    if wanted.format == "verbose_json":
        document = {
            "task": "transcribe",
            "language": language or "und",
            "duration": milliseconds(transcript.duration_seconds) / 1000,
            **document,
        }
        if "segment" in wanted.granularities:
            segments = find_segments(transcript.text, transcript.words)
            document["segments"] = [_segment(number, segment) for number, segment in enumerate(segments)]
        if "word" in wanted.granularities:
            document["words"] = list(map(_word, transcript.words))
    if notes:
        document["warnings"] = list(notes)
    return JSONResponse(document)


def usage(transcript: Transcript) -> dict[str, Any]:
    """The seconds of sound, in whole ones as OpenAI counts them."""
    return {"usage": {"type": "duration", "seconds": math.ceil(transcript.duration_seconds)}}


def event(kind: str, **values: Any) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps({'type': kind, **values}, ensure_ascii=False)}\n\n".encode()


def logprobs(words: Sequence[Word]) -> list[dict[str, Any]]:
    """The natural logarithm of the confidence of each word, which stands for OpenAI's token."""
    return [{"token": word.text, "logprob": _log(word.confidence), "bytes": list(word.text.encode())} for word in words]


def _log(confidence: float) -> float:
    return round(math.log(max(confidence, 1e-5)), 4)


def _word(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": milliseconds(word.start) / 1000,
        "end": milliseconds(word.end) / 1000,
        "confidence": round(word.confidence, 4),
    }


def _segment(number: int, segment: TextSegment) -> dict[str, Any]:
    """A segment with OpenAI's keys; those of Whisper's decoder that have no counterpart are 0 or empty."""
    data = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": milliseconds(segment.start) / 1000,
        "end": milliseconds(segment.end) / 1000,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(_log(word.confidence) for word in segment.words) / len(segment.words), 4),
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 4),
        "no_speech_prob": 0.0,
        "confidence": round(segment.confidence, 4),
    }


def check_language(given: Sequence[str], known: str) -> None:
    """Raises: RequestError: none of the languages is that of the model; none given, or none known, is right."""
    primary = {re.split(r"[-_]", tag.strip().lower())[0] for tag in given}
    if primary and known and re.split(r"[-_]", known.lower())[0] not in primary:
        raise RequestError(
            400,
            f"language must be {known}, the language of this model, not {given[0][:80]!r}",
            param="language",
            code="unsupported_language",
        )


def _text(form: FormData, name: str) -> str | None:
    values = form.getlist(name)
    if len(values) > 1 or not all(isinstance(value, str) for value in values):
        raise RequestError(400, f"{name} must be one text", param=name)
    return str(values[0]) if values else None


def _list(form: FormData, name: str) -> list[str]:
    values = [*form.getlist(f"{name}[]"), *form.getlist(name)]
    if not all(isinstance(value, str) for value in values):
        raise RequestError(400, f"{name}[] must be texts", param=f"{name}[]")
    return list(map(str, values))


def _choice(form: FormData, name: str, choices: Sequence[str], *, default: str) -> str:
    value = _text(form, name)
    if value is not None and value not in choices:
        raise RequestError(400, f"{name} must be one of {', '.join(choices)}, not {value[:80]!r}", param=name)
    return default if value is None else value
