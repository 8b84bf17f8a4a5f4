"""Kokoro-82M, a voice model: English sentences to speech in one of its voices.

Made by hexgrad, https://huggingface.co/hexgrad/Kokoro-82M, Apache 2.0; run by onnxruntime. Its phonetic symbols are
converted from the IPA of espeak-ng (GPL 3, not modified), through phonemizer. These packages are imported only when a
model is opened; nothing else in the toolkit needs them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from asr.audio.waveform import Waveform
from asr.errors import ConfigError, DataError, InputError

CREDIT = "Kokoro-82M v1.0, hexgrad, https://huggingface.co/hexgrad/Kokoro-82M, Apache 2.0"
SAMPLE_RATE, OUTPUT_RATE = 24000, 16000
STYLE_SIZE = 256
PACKAGES = "onnxruntime espeakng-loader phonemizer-fork"

# From espeak-ng's IPA, with the parts of a sound tied by ^, to Kokoro's symbols, in this order. Source: misaki 0.9.4,
# espeak.py, with two changes: British e^ə (hair) comes before e to A, and a double American r becomes one (father and).
_COMMON = (
    ("ʔˌn\u0329", "ʔn"), ("ʔn\u0329", "ʔn"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("d^ʒ", "ʤ"), ("e^ɪ", "A"), ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"), ("ə^l", "ᵊl"), ("ʲo", "jo"), ("ʲə", "jə"), ("ʲ", ""), ("ɚ", "əɹ"), ("r", "ɹ"), ("x", "k"),
    ("ç", "k"), ("ɐ", "ə"), ("ɬ", "l"), ("\u0303", ""),
)  # fmt: skip
_LAST = (("e", "A"), ("o", "ɔ"), ("ɾ", "T"), ("ʔ", "t"))
_BRITISH = (*_COMMON, ("e^ə", "ɛː"), ("i^ə", "ɪə"), ("iə", "ɪə"), ("ə^ʊ", "Q"), *_LAST)
_AMERICAN = (*_COMMON, ("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), *_LAST, ("ɹɹ", "ɹ"))


class Kokoro:
    """The model in a folder; its network is loaded for the first sentence.

    Args:
        folder: with model.onnx (float32, half precision or int8; inputs tokens or input_ids, style, speed), vocab.json
            (`{"vocab": {symbol: number}}`) and voices/NAME.bin (float32, a row of 256 for each number of symbols).
        threads: None means onnxruntime's default.
    Raises:
        ConfigError: a file or a package is missing.
        DataError: vocab.json has the wrong form.
    """

    name = "kokoro"

    def __init__(self, folder: Path, *, threads: int | None = None):
        self.voices = sorted(path.stem for path in (folder / "voices").glob("*.bin"))
        missing = [name for name in ("model.onnx", "vocab.json") if not (folder / name).is_file()]
        if missing or not self.voices:
            lacks = ", ".join(missing + ["voices/*.bin"] * (not self.voices))
            raise ConfigError(f"a voice model lacks {lacks} in {folder}; see recipes/english/README.md for its source")
        self._onnxruntime = _import("onnxruntime")
        self._phonemizer, self._espeak = _import("phonemizer.backend"), _import("phonemizer.backend.espeak.wrapper")
        self._espeak_files = _import("espeakng_loader")
        try:
            self._numbers: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError('must be {"vocab": {symbol: number}}', path=folder / "vocab.json") from error
        self._folder, self._threads = folder, threads
        self._style, self._espeak_of = cache(self._read_style), cache(self._make_espeak)
        digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        self.credit = {"model": CREDIT, "model_sha256": digest}

    def speak(self, sentence: str, *, voice: str, speed: float) -> Waveform:
        """The sentence as (N,) float32 at 16 kHz, with a short pause before and after it.

        Raises:
            InputError: the sentence has no symbols, or more than the voice has styles for (510).
            DataError: the network or the voice cannot be read.
        """
        symbols = self.symbols(sentence, british=voice.startswith("b"))
        tokens = [self._numbers[symbol] for symbol in symbols if symbol in self._numbers]
        style = self._style(voice)
        if not 0 < len(tokens) <= len(style):
            raise InputError(
                f"a sentence must have 1 to {len(style)} symbols, but {sentence!r} has {len(tokens)}: shorten it"
            )
        names = {item.name for item in self._network.get_inputs()}
        (first,) = names - {"style", "speed"}  # tokens, or in other exports input_ids
        audio = self._network.run(
            None,
            {
                first: np.array([[0, *tokens, 0]], dtype=np.int64),
                "style": style[len(tokens) - 1][None],
                "speed": np.array([speed], dtype=np.float32),
            },
        )[0]
        return soxr.resample(np.asarray(audio, dtype=np.float32).ravel(), SAMPLE_RATE, OUTPUT_RATE)

    def symbols(self, sentence: str, *, british: bool) -> str:
        """The sentence in Kokoro's symbols, with punctuation that Kokoro may lack."""
        (phones,) = self._espeak_of("en-gb" if british else "en-us").phonemize([sentence], strip=True)
        for ipa, symbol in _BRITISH if british else _AMERICAN:
            phones = phones.replace(ipa, symbol)
        return re.sub("(\\S)\u0329", r"ᵊ\1", phones).replace("^", "")  # a syllabic consonant

    @cached_property
    def _network(self) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or 0
        path = self._folder / "model.onnx"
        try:
            return self._onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no base class of errors
            raise DataError(f"cannot be loaded: {error}", path=path) from error

    def _read_style(self, voice: str) -> NDArray[np.float32]:
        path = self._folder / "voices" / f"{voice}.bin"
        content = path.read_bytes()
        if not content or len(content) % (4 * STYLE_SIZE):
            raise DataError(f"must be rows of {STYLE_SIZE} float32, but has {len(content)} bytes", path=path)
        return np.frombuffer(content, dtype="<f4").reshape(-1, STYLE_SIZE)

    def _make_espeak(self, language: str) -> Any:
        self._espeak.EspeakWrapper.set_library(self._espeak_files.get_library_path())
        self._espeak.EspeakWrapper.set_data_path(self._espeak_files.get_data_path())
        return self._phonemizer.EspeakBackend(language, preserve_punctuation=True, with_stress=True, tie="^")


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"speaking needs further packages ({error}): pip install {PACKAGES}") from error
