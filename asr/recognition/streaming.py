"""Live recognition: sound in blocks of any size, as it arrives, to text that grows and becomes final.

    blocks ─▶ sound ─▶ every step: a window of it ─▶ log_probs ─▶ frames with enough sound after them ─▶ stable words
              at the   left context, new sound                    the frames after them              ─▶ unstable words
              model's  and look-ahead
              rate          a pause, or 30 s ─▶ the whole segment once more, as in a recording ─▶ final words

A bidirectional model needs sound on both sides of a frame. So it computes overlapping windows, of which only the frames
with `look_ahead` seconds of sound after them are kept, as latency-controlled BLSTMs do (Zhang et al. 2016, "Highway
long short-term memory RNNs for distant speech recognition"). Where windows end depends on the number of samples alone,
not on the blocks in which they come.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.audio.live_sound import LiveSound
from asr.audio.silence_level import SilenceLevel
from asr.decoding.open_text import finish_text
from asr.errors import InputError
from asr.readable.style import Style, live_writer_of
from asr.recognition.pieces import CONTEXT
from asr.recognition.stream_options import StreamOptions
from asr.recognition.stretches import Emission, quietest_frame
from asr.text.segments import TextSegment, find_segments
from asr.text.subwords import Subwords
from asr.text.transcript import Timeline, join_transcripts

if TYPE_CHECKING:
    from asr.audio.waveform import Waveform
    from asr.recognition.recognizer import Recognizer

# After this many seconds a shorter pause ends a segment, and after the longest ones its quietest frame.
LONG_SEGMENT, SHORT_PAUSE, LONGEST_SEGMENT = 20.0, 0.32, 30.0
MARGIN = 0.4  # seconds of frames that are kept before the first speech
UNCERTAIN = 0.32  # seconds of the latest frames that may become speech; they are no pause yet
# Where nobody speaks and nothing is louder than before, the model waits for so many seconds of sound.
REST = 5.0

_Work = Generator["Waveform", Emission, None]  # yields what the model has to compute, and is sent the log_probs


@dataclass(frozen=True, kw_only=True)
class StreamUpdate:
    """What a stream knows after a block of sound.

    Args:
        segments: sentences, or what was spoken between pauses, that became final since the update before; they never
            change. Their times are seconds from the start of the stream. They replace the open utterance that earlier
            updates showed, and begin with its stable words; in readable style, with marks, capitals and figures.
        stable: the first words of the open utterance; later updates only add to them. Empty if nobody speaks. In
            readable style they are in lower case.
        unstable: the words after them, which may change.
        utterance_ends: after how many of `segments` each utterance ended: in a pause of `endpoint_silence`, in a
            shorter one after 20 s, at the quietest frame after 30 s, or at the end of the stream.
    """

    segments: tuple[TextSegment, ...] = ()
    stable: str = ""
    unstable: str = ""
    utterance_ends: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The open utterance, stable and unstable words."""
        return " ".join(filter(None, (self.stable, self.unstable)))


class Stream:
    """One speaker's sound, in blocks as they arrive; open it with `Recognizer.stream`.

        stream = recognizer.stream()
        for block in blocks:
            update = stream.accept(block, 16_000)
            print(*(segment.text for segment in update.segments), update.stable, update.unstable)
        update = stream.finish()

    All state is in the stream, so several threads may each use a stream of one recogniser; a stream itself belongs to
    one thread at a time. The sizes of blocks do not change the results. Memory does not grow with the length of the
    sound.
    """

    def __init__(self, recognizer: Recognizer, options: StreamOptions | None = None, *, style: Style = "readable"):
        self.options = options or StreamOptions()
        self.recognizer = recognizer
        model = recognizer.model
        self._write = live_writer_of(style, model.alphabet, model.text, recognizer.decoder.hotword_spellings)
        self._sound = LiveSound(model.sample_rate)
        self._finished = False
        labels = model.alphabet
        texts = labels.pieces if isinstance(labels, Subwords) else labels.characters
        self._silent_labels = np.array([True, *(text.isspace() for text in texts)])
        # Frames are counted from the start of the stream.
        self._samples = np.zeros(0, np.float32)  # from frame `_first` on
        self._first = 0
        self._new: list[Waveform] = []  # samples after these
        self._num_samples = 0  # of all
        self._due = self._step = max(1, self._frames(self.options.step)) * model.samples_per_frame
        # The open utterance begins at frame `_start`; its emission is in `_opened`, that of later frames in `_tail`.
        self._start = 0
        self._opened = recognizer.decoder.start()
        self._tail = self._opened.emission
        self._heard = False
        self._silence = SilenceLevel(model.sample_rate)
        self._computed = 0  # samples
        self._update: StreamUpdate | None = StreamUpdate()  # None after a change
        self._segments: list[TextSegment] = []
        self._ends: list[int] = []

    @property
    def is_readable(self) -> bool:
        """Whether segments get marks, capitals and figures, which the stable words before them lack."""
        return self._write is not None

    @property
    def open_since(self) -> float:
        """Where the open utterance begins, with the silence before it: seconds from the start of the stream."""
        return self._start * self.recognizer.model.frame_seconds

    def accept(self, samples: Any, sample_rate: int | None = None) -> StreamUpdate:
        """What is known after these samples.

        Args:
            samples: (N,) floating with full scale 1, or int16; N may be 0.
            sample_rate: Hz, the same for all blocks; None means the rate of the first block, at first the model's.
        Raises:
            InputError: samples or rate are not as above, or the stream is finished; the stream stays as it was.
        """
        (update,) = accept_together([self], [samples], sample_rate)
        return update

    def finish(self) -> StreamUpdate:
        """The rest: all segments that were open; the stream accepts no more.

        Raises:
            InputError: the stream is finished.
        """
        self._refuse_if_finished()
        self._finished = True
        _compute(self.recognizer, [self._take_last()])
        return self._result()

    def _refuse_if_finished(self) -> None:
        if self._finished:
            raise InputError("the stream must be open, but it is finished: open another one with Recognizer.stream")

    def _frames(self, seconds: float) -> int:
        return round(seconds / self.recognizer.model.frame_seconds)

    @property
    def _fixed(self) -> int:
        """The frame after those whose labels are fixed."""
        return self._start + len(self._opened.emission)

    def _result(self) -> StreamUpdate:
        if self._update is None:
            stable = self._opened.stable if self._heard else ""
            unstable = self._opened.unstable(self._tail) if self._heard else ""
            if self._write:
                stable, unstable = stable.lower(), unstable.lower()
            self._update = StreamUpdate(stable=stable, unstable=unstable)
        update = replace(self._update, segments=tuple(self._segments), utterance_ends=tuple(self._ends))
        self._segments, self._ends = [], []
        return update

    def _take(self, waveform: Waveform) -> _Work:
        """Take samples at the model's rate."""
        while len(waveform):
            part, waveform = np.split(waveform, [self._due - self._num_samples])
            self._new.append(part)
            self._num_samples += len(part)
            if self._num_samples == self._due:
                self._due += self._step
                yield from self._advance()

    def _take_last(self) -> _Work:
        yield from self._take(self._sound.finish())
        if self._num_samples:
            yield from self._advance(last=True)
        self._samples, self._new = self._samples[:0], []

    def _advance(self, *, last: bool = False) -> _Work:
        """Compute the window that ends now, and end utterances."""
        self._samples = np.concatenate([self._samples, *self._new])
        self._new = []
        if not last and self._rests():
            return
        options, per_frame = self.options, self.recognizer.model.samples_per_frame
        first = max(self._fixed - self._frames(options.left_context), self._first)
        emission = yield self._between(first)
        fixed, end = self._fixed, first + len(emission)
        now = end if last else min(self._num_samples // per_frame, end)
        upto = now if last else max(fixed, now - self._frames(options.look_ahead))
        self._opened.advance(emission[fixed - first : upto - first])
        self._tail = emission[upto - first : now - first]
        self._update = None
        if not self._has_speech():
            self._silence.note(self._between(fixed, self._fixed))
        yield from self._end_utterances(last=last)
        self._heard = self._has_speech()
        if not self._heard:
            self._restart(max(self._start, self._fixed - self._frames(MARGIN)))
        needed = min(self._start - self._frames(CONTEXT), self._fixed - self._frames(options.left_context))
        kept = max(needed, self._first)
        self._samples, self._first = self._between(kept), kept
        self._computed = self._num_samples

    def _has_speech(self) -> bool:
        emission = np.concatenate([self._opened.emission, self._tail])
        return not self._are_silent(emission).all() or bool(self._opened.stable)

    def _are_silent(self, emission: Emission) -> np.ndarray:
        """(T,) whether the best label of each frame is Φ or a space."""
        return self._silent_labels[emission.argmax(axis=1)]

    def _restart(self, start: int) -> None:
        """Begin an utterance at a frame up to which all are final."""
        emission = np.concatenate([self._opened.emission, self._tail])[start - self._start :]
        num_fixed = max(self._fixed - start, 0)
        self._opened, self._tail, self._start = self.recognizer.decoder.start(), emission[num_fixed:], start
        self._opened.advance(emission[:num_fixed])

    def _end_utterances(self, *, last: bool) -> _Work:
        """Make all segments final that are complete."""
        while (found := self._find_end(last=last)) is not None:
            cut, silent_until = found
            yield from self._finish_utterance(cut, silent_until=silent_until)
            self._restart(cut)
        if last and self._has_speech():
            end = self._fixed
            yield from self._finish_utterance(end, silent_until=end, last=True)
            self._restart(end)

    def _find_end(self, *, last: bool) -> tuple[int, int] | None:
        """The frame at which the open utterance ends, and that at which the pause ends; None if it goes on."""
        options, emission = self.options, np.concatenate([self._opened.emission, self._tail])
        borders = np.flatnonzero(np.diff(self._are_silent(emission), prepend=False, append=False))
        uncertain = 0 if last else min(self._frames(UNCERTAIN), len(self._tail))
        for start, end in zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True):
            end = min(end, len(emission) - uncertain)
            is_long = end >= self._frames(LONG_SEGMENT)
            needed = min(options.endpoint_silence, SHORT_PAUSE) if is_long else options.endpoint_silence
            if start and end - start >= self._frames(needed) and start >= self._opened.num_stable_frames():
                return self._start + (start + end) // 2, self._start + end
        if len(self._opened.emission) >= self._frames(LONGEST_SEGMENT):
            earliest = max(self._opened.num_stable_frames(), self._frames(LONG_SEGMENT))
            rest = self._opened.emission[earliest:]
            cut = self._start + earliest + (quietest_frame(rest, rest)[0] if len(rest) else 0)
            return cut, cut
        return None

    def _finish_utterance(self, cut: int, *, silent_until: int, last: bool = False) -> _Work:
        """Make the segments of the open utterance up to a frame final, from log_probs of all of its sound.

        Args:
            silent_until: the frame at which the pause ends that the cut halves.
            last: whether the sound ends.
        """
        model = self.recognizer.model
        context = self._frames(CONTEXT)
        first = max(self._start - context, self._first)
        emission = yield self._between(first, cut + context)
        rest = max(self._num_samples - self._start * model.samples_per_frame, 0) / model.sample_rate
        transcript = finish_text(
            self._opened,
            emission[self._start - first : cut - first],
            frame_seconds=model.frame_seconds,
            duration_seconds=rest if last else None,
        )
        end = self._start * model.frame_seconds + transcript.duration_seconds
        timeline = Timeline(frame_seconds=model.frame_seconds, duration_seconds=end)
        text, words = transcript.text, join_transcripts([transcript], [self._start], timeline=timeline).words
        if self._write:
            pause_end = max(end, silent_until * model.frame_seconds)
            words = tuple(self._write(words, pause_end, is_last=last))
            text = " ".join(word.text for word in words)
        if words:
            self._segments += find_segments(text, words)
            self._ends.append(len(self._segments))

    def _rests(self) -> bool:
        """Whether the model need not compute yet: nobody speaks, and nothing is louder than the silence before."""
        waited = self._num_samples - self._computed
        return (
            not self._heard
            and waited < REST * self.recognizer.model.sample_rate
            and self._silence.covers(self._between(self._fixed))
        )

    def _between(self, start: int, end: int | None = None) -> Waveform:
        """The samples from one frame to another; None: to the last sample."""
        per_frame = self.recognizer.model.samples_per_frame
        stop = None if end is None else (end - self._first) * per_frame
        return self._samples[(start - self._first) * per_frame : stop]


def accept_together(
    streams: Sequence[Stream], blocks: Sequence[Any], sample_rate: int | None = None
) -> list[StreamUpdate]:
    """`Stream.accept` of several streams of one recogniser, each with its block; the model computes them in batches.

    Raises:
        InputError: as `Stream.accept`, before any stream has changed; or the streams are of several recognisers, or one
            is there twice, or there are more or fewer blocks.
    """
    if len(streams) != len(blocks) or len(set(map(id, streams))) < len(streams):
        raise InputError(f"each stream must be there once, with its block; got {len(streams)} and {len(blocks)} blocks")
    if len({id(stream.recognizer) for stream in streams}) > 1:
        raise InputError("the streams must be of one recogniser; got streams of several")
    for stream in streams:
        stream._refuse_if_finished()
    checked = [stream._sound.checked(block, sample_rate) for stream, block in zip(streams, blocks, strict=True)]
    works = [stream._take(stream._sound.read(*pair)) for stream, pair in zip(streams, checked, strict=True)]
    if streams:
        _compute(streams[0].recognizer, works)
    return [stream._result() for stream in streams]


def stream_blocks(stream: Stream, blocks: Iterable[Any], sample_rate: int | None = None) -> Iterator[StreamUpdate]:
    """The update of each block, and of the end."""
    for block in blocks:
        yield stream.accept(block, sample_rate)
    yield stream.finish()


def _compute(recognizer: Recognizer, works: Sequence[_Work]) -> None:
    """Run works to their ends; in each round the model computes the windows of all of them together."""
    waiting = [(work, window) for work in works if (window := next(work, None)) is not None]
    while waiting:
        emissions = recognizer.all_log_probs([window for _, window in waiting])
        answers = [(work, _send(work, emission)) for (work, _), emission in zip(waiting, emissions, strict=True)]
        waiting = [(work, window) for work, window in answers if window is not None]


def _send(work: _Work, emission: Emission) -> Waveform | None:
    try:
        return work.send(emission)
    except StopIteration:
        return None
