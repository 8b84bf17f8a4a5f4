"""Speech recognition with CTC: transcribe, train, decode, align and rescore.

    import asr
    recognizer = asr.load()
    transcript = recognizer.transcribe("file.wav")
    transcript.text, transcript.words[0].start, transcript.words[0].end, transcript.words[0].confidence

Names are resolved when first used, so that `import asr` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asr.acoustic_model import AcousticModel as AcousticModel
    from asr.audio import duration_seconds as duration_seconds
    from asr.audio import read_audio as read_audio
    from asr.ctc.alignment import align as align
    from asr.ctc.loss import ctc_loss as ctc_loss
    from asr.decoding import Decoder as Decoder
    from asr.decoding import decode as decode
    from asr.decoding_options import DecodingOptions as DecodingOptions
    from asr.errors import AsrError as AsrError
    from asr.errors import AsrWarning as AsrWarning
    from asr.errors import ConfigError as ConfigError
    from asr.errors import DataError as DataError
    from asr.errors import InputError as InputError
    from asr.label_decoder import build_decoder as build_decoder
    from asr.metrics import cer as cer
    from asr.metrics import wer as wer
    from asr.recognizer import Recognizer as Recognizer
    from asr.recognizer import load as load
    from asr.text import Alphabet as Alphabet
    from asr.text import TextOptions as TextOptions
    from asr.text import normalize as normalize
    from asr.transcript import Hypothesis as Hypothesis
    from asr.transcript import Transcript as Transcript
    from asr.transcript import Word as Word

_HOME = {
    "AcousticModel": "acoustic_model",
    "duration_seconds": "audio",
    "read_audio": "audio",
    "align": "ctc.alignment",
    "ctc_loss": "ctc.loss",
    "Decoder": "decoding",
    "DecodingOptions": "decoding_options",
    "decode": "decoding",
    "AsrError": "errors",
    "AsrWarning": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "InputError": "errors",
    "build_decoder": "label_decoder",
    "cer": "metrics",
    "wer": "metrics",
    "Recognizer": "recognizer",
    "load": "recognizer",
    "Alphabet": "text",
    "TextOptions": "text",
    "normalize": "text",
    "Hypothesis": "transcript",
    "Transcript": "transcript",
    "Word": "transcript",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'asr' has no attribute {name!r}")
    value = getattr(import_module(f"asr.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
