"""What a client of OpenAI's realtime API may set for a transcription session, and how the session is described.

Source: OpenAI, "API Reference", Realtime: Client events, session.update; and the form of its beta,
transcription_session.update, whose fields have other names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import soundfile

from asr.server.connection import int16_samples
from asr.server.errors import RequestError, unknown_model
from asr.server.transcriptions import check_language, hotwords_of

LOGPROBS = "item.input_audio_transcription.logprobs"
_SILENCE = (100, 10_000)  # ms
# Fields by path. Those without effect steer OpenAI's models, or answers that a transcription session never gives.
_KNOWN: dict[str, tuple[str, ...]] = {
    "session": ("type", "audio", "include"),
    "session.audio": ("input",),
    "session.audio.input": ("format", "noise_reduction", "transcription", "turn_detection"),
    "session.audio.input.format": ("type", "rate"),
    "session.audio.input.noise_reduction": ("type", "strength"),
    "session.audio.input.transcription": ("model", "language", "languages", "prompt", "keywords", "delay"),
    "session.audio.input.turn_detection": (
        *("type", "silence_duration_ms"),
        *("threshold", "prefix_padding_ms", "create_response", "interrupt_response", "idle_timeout_ms"),
    ),
}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_BETA_FIELDS = {
    "input_audio_format": "format",
    "input_audio_noise_reduction": "noise_reduction",
    "input_audio_transcription": "transcription",
    "turn_detection": "turn_detection",
}
_BETA_WITHOUT_EFFECT = ("modalities", "client_secret")


@dataclass(frozen=True, kw_only=True)
class Format:
    """A form of samples.

    Args:
        rate: Hz.
        decode: bytes to (N,) int16.
    """

    rate: int
    decode: Callable[[bytes], np.ndarray]


@cache
def _companded(law: str) -> np.ndarray:
    """(256,) int16: the sample of each byte of G.711."""
    sound = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": law, "dtype": "int16"}
    return soundfile.read(BytesIO(bytes(range(256))), **sound)[0]


FORMATS = {
    "audio/pcm": Format(rate=24_000, decode=int16_samples),
    "audio/pcmu": Format(rate=8000, decode=lambda data: _companded("ULAW")[np.frombuffer(data, np.uint8)]),
    "audio/pcma": Format(rate=8000, decode=lambda data: _companded("ALAW")[np.frombuffer(data, np.uint8)]),
}


@dataclass(frozen=True, kw_only=True)
class RealtimeConfig:
    """The configuration of a session.

    Args:
        model: as the client calls it.
        format: of the sound, one of `FORMATS`.
        languages: as the client calls that of the model.
        prompt, keywords: with hotwords.
        silence: milliseconds that end an item; None: the client does, by a commit.
        logprobs: of each word, in finished transcriptions.
    """

    model: str
    format: str = "audio/pcm"
    languages: tuple[str, ...] = ()
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    silence: int | None = 500
    logprobs: bool = False

    @property
    def hotwords(self) -> tuple[str, ...]:
        """Words and phrases to expect."""
        return hotwords_of(self.prompt, self.keywords)

    def changed(self, session: Any, *, models: Sequence[str], language: str) -> RealtimeConfig:
        """This configuration with the fields that a client sends; others stay.

        Args:
            session: of the event session.update.
            models: names of the model that clients may give.
            language: of the model; empty if unknown.
        Raises:
            RequestError: a field is unknown or wrong.
        """
        fields = _fields(session, "session")
        if fields.get("type") != "transcription":
            raise _wrong("session.type", '"transcription"', fields.get("type"))
        changes: dict[str, Any] = {}
        if "include" in fields:
            include = [] if fields["include"] is None else fields["include"]
            if not isinstance(include, list) or any(name != LOGPROBS for name in include):
                raise _wrong("session.include", f'a list that holds "{LOGPROBS}" only', include)
            changes["logprobs"] = bool(include)
        path = "session.audio.input"
        given = _fields(_fields(fields.get("audio", {}), "session.audio").get("input", {}), path)
        if "format" in given:
            changes["format"] = _format(given["format"], f"{path}.format")
        if given.get("noise_reduction") is not None:
            _fields(given["noise_reduction"], f"{path}.noise_reduction")
        if "turn_detection" in given:
            changes["silence"] = _silence(given["turn_detection"], f"{path}.turn_detection", self.silence)
        if "transcription" in given:
            changes |= _transcription(given["transcription"], f"{path}.transcription", models, language)
        config = replace(self, **changes)
        _ = config.hotwords  # raises where they are too many
        return config

    def document(self, identity: dict[str, Any]) -> dict[str, Any]:
        """The session as OpenAI describes it; what has no effect is left out.

        Args:
            identity: id and the like.
        """
        return {
            **identity,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": self.format, **({"rate": 24_000} if self.format == "audio/pcm" else {})},
                    "noise_reduction": None,
                    "transcription": self._transcription(),
                    "turn_detection": self._turn_detection(),
                }
            },
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def beta_document(self, identity: dict[str, Any]) -> dict[str, Any]:
        """As `document`, in the form of the beta."""
        return {
            **identity,
            "object": "realtime.transcription_session",
            "input_audio_format": next(beta for beta, name in _BETA_FORMATS.items() if name == self.format),
            "input_audio_noise_reduction": None,
            "input_audio_transcription": self._transcription(),
            "turn_detection": self._turn_detection(),
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def _transcription(self) -> dict[str, Any]:
        return {
            "model": self.model,
            **({"language": self.languages[0]} if self.languages else {}),
            "prompt": self.prompt,
            **({"keywords": list(self.keywords)} if self.keywords else {}),
        }

    def _turn_detection(self) -> dict[str, Any] | None:
        return None if self.silence is None else {"type": "server_vad", "silence_duration_ms": self.silence}


def from_beta(session: Any) -> dict[str, Any]:
    """The session of session.update that one of transcription_session.update means.

    Raises:
        RequestError: a field is unknown.
    """
    if not isinstance(session, dict):
        raise _wrong("session", "an object", session)
    known = (*_BETA_FIELDS, "include", *_BETA_WITHOUT_EFFECT)
    _check_names(session, "session", known)
    given = {name: session[beta] for beta, name in _BETA_FIELDS.items() if beta in session}
    if "format" in given:
        if given["format"] not in tuple(_BETA_FORMATS):
            raise _wrong("session.input_audio_format", " or ".join(_BETA_FORMATS), given["format"])
        given["format"] = {"type": _BETA_FORMATS[given["format"]]}
    include = {"include": session["include"]} if "include" in session else {}
    return {"type": "transcription", "audio": {"input": given}, **include}


def _fields(value: Any, path: str) -> dict[str, Any]:
    """The fields of an object.

    Raises:
        RequestError: it is none, or has an unknown one.
    """
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)
    _check_names(value, path, _KNOWN[path])
    return value


def _check_names(value: dict[str, Any], path: str, known: Sequence[str]) -> None:
    for name in value:
        if name not in known:
            message = f"unknown parameter {f'{path}.{name}'[:120]!r}; known are {', '.join(known)}"
            raise RequestError(400, message, param=f"{path}.{name}"[:120], code="unknown_parameter")


def _wrong(path: str, rule: str, value: Any) -> RequestError:
    return RequestError(400, f"{path} must be {rule}, not {str(value)[:80]!r}", param=path, code="invalid_value")


def _format(value: Any, path: str) -> str:
    fields = _fields(value, path)
    name = fields.get("type")
    if name not in tuple(FORMATS):
        raise _wrong(f"{path}.type", " or ".join(FORMATS), name)
    rate = FORMATS[name].rate
    if fields.get("rate", rate) != rate:
        raise _wrong(f"{path}.rate", f"{rate} for {name}", fields["rate"])
    return str(name)


def _silence(value: Any, path: str, before: int | None) -> int | None:
    if value is None:
        return None
    fields = _fields(value, path)
    if fields.get("type", "server_vad") != "server_vad":
        raise _wrong(f"{path}.type", '"server_vad"', fields["type"])
    silence = fields.get("silence_duration_ms", before or RealtimeConfig.silence)
    if not isinstance(silence, int) or not _SILENCE[0] <= silence <= _SILENCE[1]:
        rule = f"a whole number of milliseconds, {_SILENCE[0]} to {_SILENCE[1]}"
        raise _wrong(f"{path}.silence_duration_ms", rule, silence)
    return int(silence)


def _transcription(value: Any, path: str, models: Sequence[str], language: str) -> dict[str, Any]:
    fields = _fields(value, path)
    changes: dict[str, Any] = {}
    if fields.get("model") is not None:
        if fields["model"] not in tuple(models):
            raise unknown_model(fields["model"], models, param=f"{path}.model")
        changes["model"] = fields["model"]
    given = [*_texts(fields.get("languages"), f"{path}.languages")]
    if fields.get("language") is not None:
        given = _texts([fields["language"]], f"{path}.language")
    if given:
        check_language(given, language)
        changes["languages"] = tuple(given)
    if "prompt" in fields:
        (changes["prompt"],) = _texts(["" if fields["prompt"] is None else fields["prompt"]], f"{path}.prompt")
    if "keywords" in fields:
        changes["keywords"] = tuple(_texts(fields["keywords"], f"{path}.keywords"))
    return changes


def _texts(value: Any, path: str) -> list[str]:
    """A list of texts; none for null."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _wrong(path, "a text" if path.endswith(("prompt", "language")) else "a list of texts", value)
    return value
