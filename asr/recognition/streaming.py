"""Live recognition: sound in blocks of any size, as it arrives, to text that grows and becomes final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.options import check_options, option
from asr.text.segments import TextSegment

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How live sound becomes text."""

    look_ahead: float = option(
        1.0, "wait for this many seconds of sound after a frame before its labels are fixed", least=0, most=10
    )
    step: float = option(0.5, "compute after this many seconds of new sound", least=0.04, most=10)
    endpoint_silence: float = option(0.8, "end a segment after this many seconds without speech", least=0.1, most=10)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class StreamUpdate:
    """What a stream knows after a block of sound.

    Args:
        segments: sentences, or what was spoken between pauses, that became final since the update before; they never
            change. Their times are seconds from the start of the stream. They replace the open utterance that earlier
            updates showed.
        stable: the first words of the open utterance; later updates only add to them, and the final segments begin with
            them. Empty if nobody speaks.
        unstable: the words after them, which may change.
    """

    segments: tuple[TextSegment, ...] = ()
    stable: str = ""
    unstable: str = ""

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

    def __init__(self, recognizer: Recognizer, options: StreamOptions | None = None):
        self.options = options or StreamOptions()

    def accept(self, samples: Any, sample_rate: int | None = None) -> StreamUpdate:
        """What is known after these samples.

        Args:
            samples: (N,) floating with full scale 1, or int16; N may be 0.
            sample_rate: Hz, the same for all blocks; None means the rate of the first block, at first the model's.
        Raises:
            InputError: samples or rate are not as above, or the stream is finished; the stream stays as it was.
        """
        raise NotImplementedError

    def finish(self) -> StreamUpdate:
        """The rest: all segments that were open; the stream accepts no more.

        Raises:
            InputError: the stream is finished.
        """
        raise NotImplementedError


def accept_together(
    streams: Sequence[Stream], blocks: Sequence[Any], sample_rate: int | None = None
) -> list[StreamUpdate]:
    """`Stream.accept` of several streams of one recogniser, each with its block; the model computes them in batches.

    Raises:
        InputError: as `Stream.accept`, before any stream has changed.
    """
    raise NotImplementedError


def stream_blocks(stream: Stream, blocks: Iterable[Any], sample_rate: int | None = None) -> Iterator[StreamUpdate]:
    """The update of each block, and of the end."""
    for block in blocks:
        yield stream.accept(block, sample_rate)
    yield stream.finish()
