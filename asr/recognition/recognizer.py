"""The recogniser, which `asr.load()` returns: turns any sound into transcripts, in order and in bounded memory.

sources ─▶ pieces ─▶ a window of them, sorted by length, in batches ─▶ log_probs ─▶ stretches ─▶ transcripts
           cut at pauses, with                                         pieces joined             joined
           a second of context                                         in silence
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import torch

from asr.acoustic.model import AcousticModel, find_model, in_folder, pad_waveforms
from asr.audio.source import MAX_INPUT_BYTES
from asr.audio.waveform import Source, Waveform, stream_audio
from asr.compute.cells import make_cell
from asr.compute.device import Precision, autocast, choose_precision, find_device
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, InputError
from asr.recognition.pieces import WINDOW_SECONDS, Piece, SourceOrUtterance, read_pieces, windows
from asr.recognition.stretches import Emission, Stretch, cut_stretches, join_pieces, join_stretches, stretch_seconds
from asr.text.alphabet import BLANK
from asr.text.transcript import Transcript

SILENCE = 2.0**-15  # the smallest step of 16 bits; quieter sound is set to silence, not amplified
STRETCHES = 64  # decoded together, so that a recurrent language model scores their hypotheses in one batch


class Recognizer:
    """A recogniser with one acoustic model; create it with `load`.

    Args:
        model: the acoustic model.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA if there is one.
        precision: format of the matrix products; "auto" measures once which is faster here.
        batch_size: pieces of sound in a batch of the model.
        decoding: how log-probabilities become text; None means greedy decoding.
    Raises:
        InputError: there is no such device, or batch_size is not positive.
        DataError, InputError: a file of `decoding` cannot be used; see `Decoder`.
    """

    def __init__(
        self,
        model: AcousticModel,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int = 16,
        decoding: DecodingOptions | None = None,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self.device = find_device(device)
        self.model = model.to(self.device).eval()
        self.dtype = choose_precision(
            precision, self.device, make_cell=partial(make_cell, model.config.encoder.cell), training=False
        )
        self.batch_size = batch_size
        self.decoder = Decoder(model.alphabet, decoding, device=str(self.device), dtype=self.dtype)

    def with_decoding(self, decoding: DecodingOptions | Mapping[str, Any]) -> Recognizer:
        """A recogniser with the same model and other decoding options; a mapping changes some of this recogniser's.

        Raises:
            ConfigError, DataError, InputError: as `load`.
        """
        options = decoding if isinstance(decoding, DecodingOptions) else self.decoder.options.changed(decoding)
        other = copy(self)
        other.decoder = Decoder(self.model.alphabet, options, device=str(self.device), dtype=self.dtype)
        return other

    def transcribe(
        self,
        source: Source,
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
    ) -> Transcript:
        """The transcript of one recording of any length.

        Args:
            source: a path, "-" for standard input, a binary file object, or (samples, rate): see `read_audio`.
            channel: number of the channel, from 0; None averages all.
            track: number of the sound track, from 0; None means the track flagged as default.
            max_input_bytes: most bytes of standard input, a pipe, a file object or a URL.
        Raises:
            DataError, InputError: the source cannot be read.
        """
        (transcript,) = self.transcribe_many([source], channel=channel, track=track, max_input_bytes=max_input_bytes)
        return transcript

    def transcribe_many(
        self,
        sources: Iterable[Source],
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
    ) -> Iterator[Transcript]:
        """Transcripts of many recordings, in order, with ten minutes of sound in memory.

        Raises:
            DataError, InputError: a source cannot be read; raised after the transcripts of the sources before it.
        """
        for result in self.results(sources, channel=channel, track=track, max_input_bytes=max_input_bytes):
            if isinstance(result, AsrError):
                raise result
            yield result

    def results(
        self,
        sources: Iterable[SourceOrUtterance],
        *,
        progress: Callable[[float], None] | None = None,
        **sound: Any,
    ) -> Iterator[Transcript | AsrError]:
        """As `transcribe_many`, but an unreadable source gives its error in its place, and the next sources follow.

        A source may also be an utterance of a manifest. `progress` is called after each batch with its seconds; `sound`
        is as for `transcribe`.
        """
        pieces = read_pieces(sources, self.model, **sound)
        by_source = groupby(self._emissions(pieces, progress), key=lambda pair: pair[0].source)
        stretches = chain.from_iterable(cut_stretches(number, group, self.model) for number, group in by_source)
        for _, group in groupby(self._decoded(stretches), key=lambda pair: pair[0].source):
            yield join_stretches(group, self.model)

    def log_probs(self, source: Source, *, channel: int | None = None, track: int | None = None) -> Emission:
        """(T, V) float32 natural log-probabilities of one recording of any length, without cutting it.

        A frame begins every `model.frame_seconds`; column 0 is Φ, column i + 1 is `model.alphabet.characters[i]`.
        """
        blocks = list(stream_audio(source, sample_rate=self.model.sample_rate, channel=channel, track=track))
        (emission,) = self.batch_log_probs([np.concatenate(blocks)])
        return emission

    @torch.inference_mode()
    def batch_log_probs(self, waveforms: Sequence[Waveform]) -> list[Emission]:
        """log_probs of a batch of waveforms, each (N,) float32 at the model's rate, N >= 1."""
        padded, lengths = pad_waveforms(waveforms)
        with autocast(self.dtype, self.device):
            log_probs, frames = self.model(padded.to(self.device), lengths.to(self.device))
        emissions = log_probs.cpu().numpy()
        for waveform, emission in zip(waveforms, emissions, strict=True):
            if np.abs(waveform).max(initial=0.0) < SILENCE:
                emission[:] = -np.inf
                emission[:, BLANK] = 0.0
        return [emission[:count].copy() for emission, count in zip(emissions, frames.tolist(), strict=True)]

    def long_log_probs(
        self,
        source: Source,
        *,
        progress: Callable[[float], None] | None = None,
        **sound: Any,
    ) -> tuple[Emission, float]:
        """(T, V) log_probs of a recording of any length, computed in pieces as for `transcribe`; and its seconds.

        Args:
            source: as for `transcribe`.
            progress: as for `results`.
            sound: channel, track and max_input_bytes as for `transcribe`.
        """
        pieces = read_pieces([source], self.model, **sound)
        parts = list(join_pieces(self._emissions(pieces, progress), self.model))
        num_samples = parts[-1].num_samples
        assert num_samples is not None
        return np.concatenate([part.emission for part in parts]), num_samples / self.model.sample_rate

    def _emissions(
        self, pieces: Iterator[Piece], progress: Callable[[float], None] | None
    ) -> Iterator[tuple[Piece, Emission]]:
        """Each piece with its log_probs, in order; in a window, pieces of similar length share a batch."""
        for window in windows(pieces, num_samples=int(WINDOW_SECONDS * self.model.sample_rate)):
            by_length = sorted(range(len(window)), key=lambda index: -len(window[index].waveform))
            emissions: dict[int, Emission] = {}
            for begin in range(0, len(by_length), self.batch_size):
                batch = by_length[begin : begin + self.batch_size]
                waveforms = [window[index].waveform for index in batch]
                emissions.update(zip(batch, self.batch_log_probs(waveforms), strict=True))
                if progress:
                    progress(sum(map(len, waveforms)) / self.model.sample_rate)
            for index, piece in enumerate(window):
                yield piece, emissions.pop(index)

    def _decoded(self, stretches: Iterator[Stretch]) -> Iterator[tuple[Stretch, Transcript | None]]:
        """Each stretch with its transcript, None for an error; many stretches are rescored together."""
        options = self.decoder.options
        size = STRETCHES if options.rescoring.rescore_lm or options.language.fuse_lm else 1
        while batch := list(islice(stretches, size)):
            readable = [stretch for stretch in batch if stretch.error is None]
            transcripts = iter(
                self.decoder.decode_many(
                    [stretch.emission for stretch in readable],
                    frame_seconds=self.model.frame_seconds,
                    durations_seconds=[stretch_seconds(stretch, self.model) for stretch in readable],
                )
            )
            for stretch in batch:
                transcript = None if stretch.error else replace(next(transcripts), model=self.model.config.name)
                yield stretch, transcript


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int = 16,
    decoding: DecodingOptions | Mapping[str, Any] | None = None,
) -> Recognizer:
    """A recogniser with a model.

    Args:
        model: a model folder, the name of an embedded model, or None for the default one.
        device, precision, batch_size: see `Recognizer`.
        decoding: how log-probabilities become text; a mapping changes some of the model's own options (see
            `DecodingOptions.changed`), None keeps them.
    Raises:
        ConfigError: the mapping has an unknown option or a wrong value.
        DataError: the folder is not a model, or is damaged; or a file of `decoding` cannot be read.
        InputError: there is no embedded model of that name, or no such device; or no hotword can be spelled.
    """
    folder = find_model(model)
    acoustic_model = AcousticModel.load(folder)
    if not isinstance(decoding, DecodingOptions):
        decoding = in_folder(acoustic_model.config.decoding, folder).changed(decoding or {})
    return Recognizer(acoustic_model, device=device, precision=precision, batch_size=batch_size, decoding=decoding)
