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
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from asr.acoustic.ctc_model import CTCModel
from asr.acoustic.folder import find_model, in_folder
from asr.acoustic.foreign.loading import find_foreign, folder_of, read_decoding
from asr.acoustic.loading import load_own
from asr.audio.source import MAX_INPUT_BYTES
from asr.audio.waveform import Source, Waveform, stream_audio
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, InputError
from asr.readable.style import Style, writer_of
from asr.recognition.pieces import SHORTEST_PIECE, WINDOW_SECONDS, Piece, SourceOrUtterance, growing_groups, read_pieces
from asr.recognition.stream_options import StreamOptions
from asr.recognition.streaming import Stream
from asr.recognition.stretches import (
    Emission,
    Stretch,
    cut_stretches,
    join_pieces,
    join_stretches,
    placed_parts,
    stretch_seconds,
)
from asr.text.alphabet import BLANK
from asr.text.segments import TextSegment, stream_segments
from asr.text.transcript import Transcript, Word, with_readable_words

if TYPE_CHECKING:
    from asr.compute.runtime import Precision, Runtime

SILENCE = 2.0**-15  # the smallest step of 16 bits; quieter sound is set to silence, not amplified
BATCH_SECONDS = 96.0  # most sound in a batch of the model, padding included: bounds memory
# Stretches decoded together, so that a recurrent language model scores their hypotheses in one batch.
STRETCHES, STRETCHES_SECONDS = 64, 160.0


class Recognizer:
    """A recogniser with one acoustic model; create it with `load`.

    Args:
        model: the acoustic model.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA if there is one.
        precision: format of the matrix products; "auto" measures once which is faster here.
        batch_size: most pieces of sound in a batch of the model; long ones are fewer, `BATCH_SECONDS` together.
        decoding: how log-probabilities become text; None means greedy decoding.
    Raises:
        InputError: there is no such device, or batch_size is not positive.
        ConfigError: the model cannot compute in this precision.
        DataError, InputError: a file of `decoding` cannot be used; see `Decoder`.
    """

    def __init__(
        self,
        model: CTCModel,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int = 16,
        decoding: DecodingOptions | None = None,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self.model = model
        self.device, self.dtype = model.prepare(device, precision)
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
        source: Source | ArrayLike,
        sample_rate: int | None = None,
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
        style: Style = "readable",
    ) -> Transcript:
        """The transcript of one recording of any length.

        Args:
            source: a path, "-" for standard input, a binary file object, or samples: see `read_audio`.
            sample_rate: Hz of the samples; transcribe(samples, rate) is the same as transcribe((samples, rate)).
            channel: number of the channel, from 0; None averages all.
            track: number of the sound track, from 0; None means the track flagged as default.
            max_input_bytes: most bytes of standard input, a pipe, a file object or a URL.
            style: "readable" has marks, capitals and figures, if the model emits English words in A to Z and
                apostrophes; "raw" is what the model emits.
        Raises:
            DataError, InputError: the source cannot be read.
        """
        options: dict[str, Any] = {"channel": channel, "track": track, "max_input_bytes": max_input_bytes}
        (transcript,) = self.transcribe_many([_with_rate(source, sample_rate)], **options, style=style)
        return transcript

    def segments(
        self,
        source: Source | ArrayLike,
        sample_rate: int | None = None,
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
        style: Style = "readable",
    ) -> Iterator[TextSegment]:
        """The sentences of one recording, or what is spoken between pauses, each as soon as it is final.

            for segment in recognizer.segments("talk.mp3"):
                print(segment.start, segment.end, segment.text)

        Args:
            source, sample_rate, channel, track, max_input_bytes, style: as for `transcribe`.
        Raises:
            DataError, InputError: the source cannot be read; raised after the segments before the error.
        """
        sound = {"channel": channel, "track": track, "max_input_bytes": max_input_bytes}
        pieces = read_pieces([_with_rate(source, sample_rate)], self.model, **sound)
        stretches = cut_stretches(0, self._emissions(pieces), self.model)
        parts: list[tuple[Stretch, Transcript | None]] = []
        write = writer_of(style, self.model.alphabet, self.model.text, self.decoder.hotword_spellings)
        yield from stream_segments(write(placed_parts(self._decoded(stretches), parts, self.model)))
        if error := parts[-1][0].error:
            raise error

    def stream(self, options: StreamOptions | None = None, *, style: Style = "readable") -> Stream:
        """A stream of live sound, which gives text as it is spoken; one for each speaker.

            stream = recognizer.stream()
            update = stream.accept(samples, 16_000)
            print(update.stable, update.unstable)

        Args:
            options: None means the defaults.
            style: as for `transcribe`.
        """
        return Stream(self, options, style=style)

    def transcribe_many(
        self,
        sources: Iterable[Source],
        *,
        channel: int | None = None,
        track: int | None = None,
        max_input_bytes: int = MAX_INPUT_BYTES,
        style: Style = "readable",
    ) -> Iterator[Transcript]:
        """Transcripts of many recordings, in order, with ten minutes of sound in memory.

        Raises:
            DataError, InputError: a source cannot be read; raised after the transcripts of the sources before it.
        """
        options: dict[str, Any] = {"channel": channel, "track": track, "max_input_bytes": max_input_bytes}
        for result in self.results(sources, **options, style=style):
            if isinstance(result, AsrError):
                raise result
            yield result

    def results(
        self,
        sources: Iterable[SourceOrUtterance],
        *,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[int, TextSegment], None] | None = None,
        style: Style = "readable",
        **sound: Any,
    ) -> Iterator[Transcript | AsrError]:
        """As `transcribe_many`, but an unreadable source gives its error in its place, and the next sources follow.

        Args:
            sources: as for `transcribe`, or utterances of a manifest.
            progress: called with the seconds of sound whose text has become final.
            on_segment: called with the number of the source, from 0, and each segment as soon as it is final; all
                segments of a transcript come before it.
            style: as for `transcribe`.
            sound: channel, track and max_input_bytes as for `transcribe`.
        """
        pieces = read_pieces(sources, self.model, **sound)
        by_source = groupby(self._emissions(pieces), key=lambda pair: pair[0].source)
        stretches = chain.from_iterable(cut_stretches(number, group, self.model) for number, group in by_source)
        write = writer_of(style, self.model.alphabet, self.model.text, self.decoder.hotword_spellings)
        for number, group in groupby(self._decoded(stretches, progress), key=lambda pair: pair[0].source):
            parts: list[tuple[Stretch, Transcript | None]] = []
            words: list[Word] = []
            for segment in stream_segments(write(placed_parts(group, parts, self.model))):
                words += segment.words
                if on_segment:
                    on_segment(number, segment)
            transcript = join_stretches(parts, self.model)
            is_written = isinstance(transcript, Transcript) and any(word.spoken for word in words)
            yield with_readable_words(transcript, words) if is_written else transcript  # type: ignore[arg-type]

    def log_probs(self, source: Source, *, channel: int | None = None, track: int | None = None) -> Emission:
        """(T, V) float32 natural log-probabilities of one recording of any length, without cutting it.

        A frame begins every `model.frame_seconds`; column 0 is Φ, column i + 1 is `model.alphabet.characters[i]`.
        """
        blocks = list(stream_audio(source, sample_rate=self.model.sample_rate, channel=channel, track=track))
        (emission,) = self.batch_log_probs([np.concatenate(blocks)])
        return emission

    def batch_log_probs(self, waveforms: Sequence[Waveform]) -> list[Emission]:
        """log_probs of a batch of waveforms, each (N,) float32 at the model's rate, N >= 1."""
        emissions = self.model.log_probs(waveforms)
        for waveform, emission in zip(waveforms, emissions, strict=True):
            if np.abs(waveform).max(initial=0.0) < SILENCE:
                emission[:] = -np.inf
                emission[:, BLANK] = 0.0
        return emissions

    def all_log_probs(self, waveforms: Sequence[Waveform]) -> list[Emission]:
        """`batch_log_probs` of any number of waveforms; those of similar length share a batch."""
        by_length = sorted(range(len(waveforms)), key=lambda index: -len(waveforms[index]))
        emissions: dict[int, Emission] = {}
        while by_length:
            longest = len(waveforms[by_length[0]]) / self.model.sample_rate
            size = max(1, min(self.batch_size, int(BATCH_SECONDS / max(longest, 1e-3))))
            batch, by_length = by_length[:size], by_length[size:]
            emissions.update(zip(batch, self.batch_log_probs([waveforms[index] for index in batch]), strict=True))
        return [emissions[index] for index in range(len(waveforms))]

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
            progress: called with the seconds of each part that is ready.
            sound: channel, track and max_input_bytes as for `transcribe`.
        """
        (result,) = self.many_log_probs([source], progress=progress, **sound)
        if isinstance(result, AsrError):
            raise result
        return result

    def many_log_probs(
        self,
        sources: Iterable[SourceOrUtterance],
        *,
        progress: Callable[[float], None] | None = None,
        **sound: Any,
    ) -> Iterator[tuple[Emission, float] | AsrError]:
        """`long_log_probs` of each source in order, or the error of one that cannot be read; short ones share batches.

        A source may also be an utterance of a manifest.
        """
        pieces = read_pieces(sources, self.model, **sound)
        for _, group in groupby(self._emissions(pieces), key=lambda pair: pair[0].source):
            parts = []
            try:
                for part in join_pieces(group, self.model):
                    parts.append(part)
                    if progress:
                        progress(len(part.emission) * self.model.frame_seconds)
            except AsrError as error:
                yield error
                continue
            num_samples = parts[-1].num_samples
            assert num_samples is not None
            yield np.concatenate([part.emission for part in parts]), num_samples / self.model.sample_rate

    def _emissions(self, pieces: Iterator[Piece]) -> Iterator[tuple[Piece, Emission]]:
        """Each piece with its log_probs, in order; in a window, pieces of similar length share a batch.

        The first window is one piece, and each next one is twice as long, up to ten minutes: the first text is early.
        """
        rate = self.model.sample_rate
        for window in growing_groups(
            pieces, lambda piece: len(piece.waveform) / rate, first=SHORTEST_PIECE, most=WINDOW_SECONDS
        ):
            emissions = self.all_log_probs([piece.waveform for piece in window])
            for piece in window:
                yield piece, emissions.pop(0)

    def _decoded(
        self, stretches: Iterator[Stretch], progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[Stretch, Transcript | None]]:
        """Each stretch with its transcript, None for an error; many stretches are rescored together."""
        options = self.decoder.options
        together = options.rescoring.rescore_lm or options.language.fuse_lm
        for batch in growing_groups(
            stretches,
            lambda stretch: len(stretch.emission) * self.model.frame_seconds,
            first=SHORTEST_PIECE,
            most=STRETCHES_SECONDS,
            count=STRETCHES if together else 1,
        ):
            readable = [stretch for stretch in batch if stretch.error is None]
            transcripts = self.decoder.decode_many(
                [stretch.emission for stretch in readable],
                frame_seconds=self.model.frame_seconds,
                durations_seconds=[stretch_seconds(stretch, self.model) for stretch in readable],
            )
            if progress and transcripts:
                progress(sum(transcript.duration_seconds for transcript in transcripts))
            decoded = iter(transcripts)
            for stretch in batch:
                transcript = None if stretch.error else replace(next(decoded), model=self.model.name)
                yield stretch, transcript


def _with_rate(source: Source | ArrayLike, sample_rate: int | None) -> Source:
    """The source of samples and their rate, given as two arguments or as one."""
    if sample_rate is not None:
        return source, sample_rate  # type: ignore[return-value]
    if hasattr(source, "__array__"):
        raise InputError("samples need their rate in Hz: transcribe(samples, rate)")
    return source  # type: ignore[return-value]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    batch_size: int = 16,
    decoding: DecodingOptions | Mapping[str, Any] | None = None,
) -> Recognizer:
    """A recogniser with a model, ours or anybody's CTC model.

    Args:
        model: a model folder, the name of an embedded model, or None for the default one; or a model of others: a
            folder of Hugging Face or with an ONNX export, a file that ends in .onnx, or torchaudio:NAME.
        device, precision, batch_size: see `Recognizer`.
        runtime: what computes the model: "onnx" (onnxruntime, float32 on the processor) or "torch"; "auto" is torch on
            a GPU, for another precision, and for models that onnxruntime cannot compute, otherwise onnx.
        decoding: how log-probabilities become text; a mapping changes some of the model's own options (see
            `DecodingOptions.changed`), None keeps them.
    Raises:
        ConfigError: the mapping has an unknown option or a wrong value; or a package that the model needs is missing.
        DataError: the folder is not a model, or is damaged; or a file of `decoding` cannot be read.
        InputError: there is no embedded model of that name, or no such device; or no hotword can be spelled.
    """
    ctc_model: CTCModel
    if model is not None and (load_foreign := find_foreign(model)):
        ctc_model, folder = load_foreign(runtime), folder_of(model)
        own = in_folder(read_decoding(folder), folder) if folder else DecodingOptions()
    else:
        folder = find_model(model)
        ctc_model = load_own(folder, device=device, precision=precision, runtime=runtime)
        own = in_folder(ctc_model.config.decoding, folder)
    if not isinstance(decoding, DecodingOptions):
        decoding = own.changed(decoding or {})
    return Recognizer(ctc_model, device=device, precision=precision, batch_size=batch_size, decoding=decoding)
