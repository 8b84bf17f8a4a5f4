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
    from asr.acoustic.model import AcousticModel as AcousticModel
    from asr.audio.waveform import duration_seconds as duration_seconds
    from asr.audio.waveform import read_audio as read_audio
    from asr.ctc.alignment import align as align
    from asr.ctc.beam import BeamOptions as BeamOptions
    from asr.ctc.loss import ctc_loss as ctc_loss
    from asr.decoding.decoder import Decoder as Decoder
    from asr.decoding.decoder import decode as decode
    from asr.decoding.label_decoder import build_decoder as build_decoder
    from asr.decoding.options import ConfidenceOptions as ConfidenceOptions
    from asr.decoding.options import DecodingOptions as DecodingOptions
    from asr.decoding.options import LanguageOptions as LanguageOptions
    from asr.decoding.options import RescoringOptions as RescoringOptions
    from asr.errors import AsrError as AsrError
    from asr.errors import AsrWarning as AsrWarning
    from asr.errors import ConfigError as ConfigError
    from asr.errors import DataError as DataError
    from asr.errors import InputError as InputError
    from asr.recognition.many_recordings import FileResult as FileResult
    from asr.recognition.many_recordings import TranscribeOptions as TranscribeOptions
    from asr.recognition.many_recordings import transcribe_files as transcribe_files
    from asr.recognition.recognizer import Recognizer as Recognizer
    from asr.recognition.recognizer import load as load
    from asr.text.alphabet import Alphabet as Alphabet
    from asr.text.metrics import cer as cer
    from asr.text.metrics import wer as wer
    from asr.text.normalization import TextOptions as TextOptions
    from asr.text.normalization import normalize as normalize
    from asr.text.transcript import Hypothesis as Hypothesis
    from asr.text.transcript import Transcript as Transcript
    from asr.text.transcript import Word as Word

_HOME = {
    "AcousticModel": "acoustic.model",
    "duration_seconds": "audio.waveform",
    "read_audio": "audio.waveform",
    "align": "ctc.alignment",
    "BeamOptions": "ctc.beam",
    "ctc_loss": "ctc.loss",
    "Decoder": "decoding.decoder",
    "ConfidenceOptions": "decoding.options",
    "DecodingOptions": "decoding.options",
    "LanguageOptions": "decoding.options",
    "RescoringOptions": "decoding.options",
    "decode": "decoding.decoder",
    "AsrError": "errors",
    "AsrWarning": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "InputError": "errors",
    "build_decoder": "decoding.label_decoder",
    "cer": "text.metrics",
    "wer": "text.metrics",
    "FileResult": "recognition.many_recordings",
    "TranscribeOptions": "recognition.many_recordings",
    "transcribe_files": "recognition.many_recordings",
    "Recognizer": "recognition.recognizer",
    "load": "recognition.recognizer",
    "Alphabet": "text.alphabet",
    "TextOptions": "text.normalization",
    "normalize": "text.normalization",
    "Hypothesis": "text.transcript",
    "Transcript": "text.transcript",
    "Word": "text.transcript",
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
