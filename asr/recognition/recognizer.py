"""The recogniser: any sound in, transcripts out, in order and in bounded memory; what `asr.load()` returns.

sources ─▶ pieces of at most 30 s ─▶ a window of them, sorted by length, in batches ─▶ log_probs ─▶ transcripts
           cut at pauses, with                                                         joined where both sides
           a second of context                                                         of a cut are silent
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice, starmap
from typing import Any, TypeAlias

import numpy as np
import torch

from asr.acoustic.model import AcousticModel, find_model, in_folder, pad_waveforms
from asr.audio.source import MAX_INPUT_BYTES
from asr.audio.waveform import Source, Waveform, quietest_cut, stream_audio
from asr.compute.cells import make_cell
from asr.compute.device import Precision, autocast, choose_precision, find_device
from asr.data.manifest import Utterance
from asr.data.waveforms import read_waveform
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, InputError
from asr.text.alphabet import BLANK
from asr.text.transcript import Timeline, Transcript, join_transcripts

Emission: TypeAlias = np.ndarray  # (T, V) natural log-probabilities

# Long sound is cut in [SHORTEST_PIECE, LONGEST_PIECE), and each piece hears CONTEXT more on both sides, in seconds.
SHORTEST_PIECE, LONGEST_PIECE, CONTEXT = 10.0, 20.0, 1.0
# Φ for so many seconds stands between words, not in one.
PAUSE = 0.6
# After so many seconds without such a pause, a shorter one will do: of hours without an end nothing could be kept.
LONG_STRETCH, SHORT_PAUSE = 60.0, 0.2
# Sound below the least step of 16 bits is silence; normalised, it would be magnified into something.
SILENCE = 2.0**-15
# The pieces that are sorted by length together, in seconds of sound: 38 MB.
WINDOW_SECONDS = 600.0
# The stretches whose hypotheses a recurrent language model hears together.
STRETCHES = 64


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A stretch of one source, from the cut `start` to the cut `end`, in frames of the source, with its context.

    `source` counts from 0; `waveform` begins at `first_frame`. `num_samples` is the length of the whole source, known
    with its last piece. A source that cannot be read is a piece with its error.
    """

    source: int
    waveform: Waveform
    first_frame: int = 0
    start: int = 0
    end: int = 0
    num_samples: int | None = None
    error: AsrError | None = None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Frames of one source up to its frame `end`, where Φ lasts for `num_silent` frames.

    `num_samples` is the length of the whole source, known with its last part.
    """

    emission: Emission
    end: int
    num_silent: int = 0
    num_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Frames of one source that are decoded together, from its frame `start` on.

    `num_samples` is the length of the whole source, known with its last stretch. A source that cannot be read ends with
    its error.
    """

    source: int
    start: int
    emission: Emission
    num_samples: int | None = None
    error: AsrError | None = None


class Recognizer:
    """Transcribes with one acoustic model.

    Args:
        model: the acoustic model.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA where there is one.
        precision: format of the matrix products; "auto" measures once which is faster here.
        batch_size: pieces of sound that go through the model together.
        decoding: how log-probabilities become text; None means greedily.
    Raises:
        InputError: there is no such device, or batch_size is not positive.
        DataError, InputError: what `decoding` names cannot be used; see `Decoder`.
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
        """A recogniser that decodes otherwise, with the same model; a mapping changes some of the options of this one.

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
            channel: the one to take, counted from 0; None averages all of them.
            track: the sound track to take, counted from 0; None takes the one flagged default.
            max_input_bytes: what standard input, a pipe, a file object or a URL may hold.
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
        """Transcripts of many recordings, in their order; at most ten minutes of sound are held at a time.

        Raises:
            DataError, InputError: a source cannot be read; those before it have been given.
        """
        for result in self.results(sources, channel=channel, track=track, max_input_bytes=max_input_bytes):
            if isinstance(result, AsrError):
                raise result
            yield result

    def results(
        self,
        sources: Iterable[Source | Utterance],
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript | AsrError]:
        """As `transcribe_many`, but a source that cannot be read gives its error in its place, and the rest go on.

        A source may be an utterance of a manifest too, which is a stretch of one channel of a file.
        `progress` is called after every batch with the seconds of sound that went through the model in it.
        """
        pieces = self._emissions(self._pieces(sources, channel, track, max_input_bytes), progress)
        by_source = groupby(pieces, key=lambda pair: pair[0].source)
        stretches = self._decoded(chain.from_iterable(starmap(self._stretches, by_source)))
        for _, parts in groupby(stretches, key=lambda pair: pair[0].source):
            yield self._joined(parts)

    def log_probs(self, source: Source, *, channel: int | None = None, track: int | None = None) -> Emission:
        """(T, V) float32 natural log-probabilities of one recording, which is not cut however long it is.

        A frame begins every `model.frame_seconds`; column 0 is Φ, column i + 1 is `model.alphabet.characters[i]`.
        """
        blocks = list(stream_audio(source, sample_rate=self.model.sample_rate, channel=channel, track=track))
        (emission,) = self.batch_log_probs([np.concatenate(blocks)])
        return emission

    @torch.inference_mode()
    def batch_log_probs(self, waveforms: Sequence[Waveform]) -> list[Emission]:
        """log_probs of waveforms, each (N,) float32 at the model's rate, N >= 1, that go through it as one batch."""
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
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
        progress: Callable[[float], None] | None = None,
    ) -> tuple[Emission, float]:
        """(T, V) log_probs of a recording of any length, heard in pieces as `transcribe` hears it; and its seconds.

        Args:
            source, channel, track, max_input_bytes: as for `transcribe`.
            progress: as for `results`.
        Raises:
            DataError, InputError: the source cannot be read.
        """
        pieces = self._pieces([source], channel, track, max_input_bytes)
        parts = list(self._parts(self._emissions(pieces, progress)))
        num_samples = parts[-1].num_samples
        assert num_samples is not None
        return np.concatenate([part.emission for part in parts]), num_samples / self.model.sample_rate

    def _pieces(
        self, sources: Iterable[Source | Utterance], channel: int | None, track: int | None, max_input_bytes: int
    ) -> Iterator[_Piece]:
        """All pieces of all sources, in order."""
        rate = self.model.sample_rate
        for number, source in enumerate(sources):
            try:
                if isinstance(source, Utterance):
                    blocks = iter([read_waveform(source, rate)])
                else:
                    blocks = stream_audio(
                        source,
                        sample_rate=rate,
                        channel=channel,
                        track=track,
                        block_seconds=LONGEST_PIECE,
                        max_input_bytes=max_input_bytes,
                    )
                yield from self._cut(number, blocks)
            except AsrError as error:
                yield _Piece(source=number, waveform=np.zeros(0, dtype=np.float32), error=error)

    def _cut(self, source: int, blocks: Iterator[Waveform]) -> Iterator[_Piece]:
        """The pieces of one source, cut at its pauses; what is held at a time is two blocks."""
        step, rate = self.model.samples_per_frame, self.model.sample_rate
        shortest, longest = int(SHORTEST_PIECE * rate), int(LONGEST_PIECE * rate)
        context = round(CONTEXT * rate / step) * step
        held = np.zeros(0, dtype=np.float32)  # from sample `first` of the source on
        first = start = 0  # `start` is the last cut
        for block in blocks:
            held = np.concatenate([held, block])
            while first + len(held) - start > longest + context:
                offset = start - first
                cut = first + quietest_cut(held, rate, earliest=offset + shortest, latest=offset + longest, align=step)
                yield _Piece(
                    source=source,
                    waveform=held[: cut + context - first],
                    first_frame=first // step,
                    start=start // step,
                    end=cut // step,
                )
                held = held[max(cut - context - first, 0) :]
                first, start = max(cut - context, 0), cut
        num_samples = first + len(held)
        end = self.model.output_length(num_samples)
        yield _Piece(
            source=source,
            waveform=held,
            first_frame=first // step,
            start=start // step,
            end=end,
            num_samples=num_samples,
        )

    def _emissions(
        self, pieces: Iterator[_Piece], progress: Callable[[float], None] | None
    ) -> Iterator[tuple[_Piece, Emission]]:
        """Each piece with its log_probs, in order; within a window, pieces of similar length share a batch."""
        for window in _windows(pieces, num_samples=int(WINDOW_SECONDS * self.model.sample_rate)):
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

    def _parts(self, pieces: Iterator[tuple[_Piece, Emission]]) -> Iterator[_Part]:
        """The frames of one source, each once, from its pieces.

        Both pieces at a cut have heard what is around it, and the seam between them is put where both hear Φ for
        longest.

        Raises:
            AsrError: that of a piece.
        """
        seam = 0
        before: tuple[_Piece, Emission] | None = None
        for piece, emission in pieces:
            if piece.error:
                raise piece.error
            if before is not None:
                begin, first = seam, before[0].first_frame
                seam, num_silent = self._seam(*before, piece, emission, earliest=begin)
                yield _Part(emission=before[1][begin - first : seam - first], end=seam, num_silent=num_silent)
            before = piece, emission
        assert before is not None  # every source has a last piece
        piece, emission = before
        rest = emission[seam - piece.first_frame :]
        yield _Part(emission=rest, end=seam + len(rest), num_samples=piece.num_samples)

    def _stretches(self, source: int, pieces: Iterator[tuple[_Piece, Emission]]) -> Iterator[_Stretch]:
        """What is decoded together of one source.

        If a seam is a pause between words, what came before is decoded by itself, so that memory stays bounded; if not,
        it is decoded together with what follows, as if it had never been cut. After a minute without one, a shorter
        pause will do.
        """
        held: list[Emission] = []  # of the stretch that begins at frame `start`
        start = 0
        try:
            for part in self._parts(pieces):
                held.append(part.emission)
                long = (part.end - start) * self.model.frame_seconds > LONG_STRETCH
                pause = part.num_silent * self.model.frame_seconds
                if part.num_samples is not None or pause >= (SHORT_PAUSE if long else PAUSE):
                    yield _Stretch(
                        source=source, start=start, emission=np.concatenate(held), num_samples=part.num_samples
                    )
                    held, start = [], part.end
        except AsrError as error:
            yield _Stretch(source=source, start=0, emission=np.zeros((0, 0)), error=error)

    def _decoded(self, stretches: Iterator[_Stretch]) -> Iterator[tuple[_Stretch, Transcript | None]]:
        """Each stretch with its transcript, None if there is an error; some are decoded together where that pays."""
        options = self.decoder.options
        together = STRETCHES if options.rescoring.rescore_lm or options.language.fuse_lm else 1
        while batch := list(islice(stretches, together)):
            heard = [stretch for stretch in batch if stretch.error is None]
            transcripts = iter(
                self.decoder.decode_many(
                    [stretch.emission for stretch in heard],
                    frame_seconds=self.model.frame_seconds,
                    durations_seconds=[self._duration_seconds(stretch) for stretch in heard],
                )
            )
            for stretch in batch:
                transcript = None if stretch.error else replace(next(transcripts), model=self.model.config.name)
                yield stretch, transcript

    def _duration_seconds(self, stretch: _Stretch) -> float | None:
        """Of the last stretch of a source; None for another, which lasts as long as its frames."""
        if stretch.num_samples is None:
            return None
        return max(stretch.num_samples - stretch.start * self.model.samples_per_frame, 0) / self.model.sample_rate

    def _joined(self, parts: Iterator[tuple[_Stretch, Transcript | None]]) -> Transcript | AsrError:
        """The transcript of one source."""
        transcripts, offsets = [], []
        for stretch, transcript in parts:
            if transcript is None:
                assert stretch.error is not None
                return stretch.error
            transcripts.append(transcript)
            offsets.append(stretch.start)
        if len(transcripts) == 1:
            return transcripts[0]
        assert stretch.num_samples is not None
        timeline = Timeline(
            frame_seconds=self.model.frame_seconds, duration_seconds=stretch.num_samples / self.model.sample_rate
        )
        return join_transcripts(transcripts, offsets, timeline=timeline)

    def _seam(
        self, left: _Piece, heard_left: Emission, right: _Piece, heard_right: Emission, *, earliest: int
    ) -> tuple[int, int]:
        """The frame of the source where the right piece takes over, and how many frames around it are silent."""
        reach = round(CONTEXT / 2 / self.model.frame_seconds)
        begin, end = max(left.end - reach, earliest), left.end + reach
        frame, num_silent = quietest_frame(
            heard_left[begin - left.first_frame : end - left.first_frame],
            heard_right[begin - right.first_frame : end - right.first_frame],
        )
        return begin + frame, num_silent


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int = 16,
    decoding: DecodingOptions | Mapping[str, Any] | None = None,
) -> Recognizer:
    """A recogniser with the model of that name or folder.

    Args:
        model: a model folder, the name of an embedded model, or None for the default one.
        device, precision, batch_size: see `Recognizer`.
        decoding: how log-probabilities become text; a mapping changes some of the options that the model comes with
            (see `DecodingOptions.changed`), None takes them as they are.
    Raises:
        ConfigError: the mapping has an unknown option or a wrong value.
        DataError: the folder is not a model, or is damaged; or a file that `decoding` names cannot be read.
        InputError: there is no embedded model of that name, or no such device; or none of the hotwords can
            be spelled.
    """
    folder = find_model(model)
    loaded = AcousticModel.load(folder)
    if not isinstance(decoding, DecodingOptions):
        decoding = in_folder(loaded.config.decoding, folder).changed(decoding or {})
    return Recognizer(loaded, device=device, precision=precision, batch_size=batch_size, decoding=decoding)


def quietest_frame(left: Emission, right: Emission) -> tuple[int, int]:
    """The middle of the longest run of frames whose best label is Φ in both emissions, and the length of the run.

    Where they never agree on Φ: the frame where both find it likeliest, and 0. The longer emission counts as far as the
    shorter one goes.
    """
    num_frames = min(len(left), len(right))
    left, right = left[:num_frames], right[:num_frames]
    blank = (left.argmax(axis=1) == BLANK) & (right.argmax(axis=1) == BLANK)
    if not blank.any():
        return int(np.minimum(left[:, BLANK], right[:, BLANK]).argmax()), 0
    borders = np.flatnonzero(np.diff(blank, prepend=False, append=False))
    starts, ends = borders[::2], borders[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest] + ends[longest]) // 2, int(ends[longest] - starts[longest])


def _windows(pieces: Iterator[_Piece], *, num_samples: int) -> Iterator[list[_Piece]]:
    """Successive pieces together until they hold `num_samples`."""
    window: list[_Piece] = []
    held = 0
    for piece in pieces:
        window.append(piece)
        held += len(piece.waveform)
        if held >= num_samples:
            yield window
            window, held = [], 0
    if window:
        yield window
