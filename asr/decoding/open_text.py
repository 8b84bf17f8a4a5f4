"""The text of an utterance that is still spoken: its stable words, the words that may change, and its end.

frames ─▶ narrow search ─▶ prefix that all hypotheses share ─▶ stable words
                           best hypothesis ─▶ the words after them
end of the utterance ─▶ whole search, rescoring ─▶ best hypothesis that begins with the stable words
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.greedy import best_path
from asr.decoding.places import Places, place_path, place_tokens
from asr.text.alphabet import BLANK, join_bytes
from asr.text.transcript import Timeline, Transcript, find_words, join_transcripts, split_words

if TYPE_CHECKING:
    from asr.decoding.decoder import Decoder

LIVE_BEAM = 100  # prefixes; the final text has the whole beam
# Nats behind the best at which a prefix is dropped: words on which the others agree are stable. With less, words are
# stable earlier, and more of them are wrong.
LIVE_THRESHOLD = 8.0
_IMPOSSIBLE = -100.0  # nats


class OpenText:
    """What is known of an utterance after some frames. Use it from one thread at a time.

    Args:
        decoder: decodes the emission greedily, or by a search that is narrower than for a final text.
    """

    def __init__(self, decoder: Decoder):
        self.emission = np.zeros((0, decoder.labels.size), dtype=np.float32)
        self.decoder = decoder
        self._state = decoder.live_search.start() if decoder.live_search else None
        self._stable = ""  # spelled; with the space after its last word

    def advance(self, emission: np.ndarray) -> None:
        """Take the next frames, (T, V) natural log-probabilities."""
        self.emission = np.concatenate([self.emission, emission])
        if self._state is None:
            self._stable = _complete(self._greedy(self.emission))
        else:
            self._state.advance(self.decoder.adapted(emission))
            self._stable = _complete(self.decoder.alphabet.decode(self._state.stable_prefix()))

    @property
    def stable(self) -> str:
        """The words that no later frame can change."""
        return _readable(self._stable)

    @property
    def stable_words(self) -> tuple[str, ...]:
        """The words of `stable`."""
        return tuple(map(join_bytes, split_words(self._stable)))

    def unstable(self, tail: np.ndarray) -> str:
        """The words after `stable` in the best text.

        Args:
            tail: (T, V) of the next frames, which may still change.
        """
        if self._state is None:
            text = self._greedy(np.concatenate([self.emission, tail]))
        else:
            state = self._state.copy()
            state.advance(self.decoder.adapted(tail))
            hypotheses = state.finish()  # of a lexicon, perhaps none has only its words
            text = self.decoder.alphabet.decode(hypotheses[0].tokens) if hypotheses else self._stable
        return _readable(text[len(self._stable) :])

    def num_stable_frames(self) -> int:
        """The frame after the last stable word, whose space may come much later in a pause."""
        length = len(self._stable.rstrip())
        return self._places().spans[length - 1][1] if length else 0

    def stable_path(self) -> np.ndarray:
        """(T,) the labels of the frames up to the end of the stable words and of the space after them."""
        length = len(self._certain)
        if not length:
            return np.zeros(0, dtype=np.int64)
        places = self._places()
        path = np.full(places.spans[length - 1][1], BLANK)
        for label, (start, end) in zip(places.labels, places.label_spans, strict=True):
            path[start:end] = label
        return path

    def _places(self) -> Places:
        """Where the characters of the best text are, of which the stable words are the first."""
        if self._state is None:
            return place_path(best_path(self.emission, blank=BLANK), self.decoder.labels)[1]
        hypotheses = self._state.finish()
        tokens = hypotheses[0].tokens if hypotheses else self._state.stable_prefix()
        return place_tokens(self.emission, tokens, self.decoder.spellings)

    def place_stable(self, timeline: Timeline) -> Transcript:
        """The stable words as the transcript of the first frames."""
        return self.decoder.place_text(self.emission[: timeline.num_frames], self._certain, timeline)

    @property
    def _certain(self) -> str:
        """The stable words, and the space after them if it is a label of its own."""
        return self._stable if self.decoder.spellings is None else self._stable.rstrip()

    def _greedy(self, emission: np.ndarray) -> str:
        return place_path(best_path(emission, blank=BLANK), self.decoder.labels)[0]


def finish_text(
    opened: OpenText, emission: np.ndarray, *, frame_seconds: float, duration_seconds: float | None
) -> Transcript:
    """The transcript of an utterance that has ended; it begins with the stable words.

    It is what the decoder finds in the whole utterance, but without the hypotheses that begin otherwise. If all of them
    do, the frames of the stable words get the labels of these words, and the decoder searches again.

    Args:
        opened: of the same utterance; it may have seen frames after its end.
        emission: (T, V) of the utterance, computed from all of its sound, so better than what `opened` has seen.
        frame_seconds, duration_seconds: as for `decode`.
    """
    decoder, words = opened.decoder, opened.stable_words
    transcript = decoder.decode_beginning(
        emission, words, frame_seconds=frame_seconds, duration_seconds=duration_seconds
    )
    if transcript is not None:
        return transcript
    path = opened.stable_path()[: len(emission)]
    emission = np.maximum(emission, _IMPOSSIBLE)  # the stable words must fit
    forced = emission.copy()
    forced[: len(path)] = -np.inf
    forced[np.arange(len(path)), path] = 0.0
    transcript = decoder.decode_beginning(
        emission, words, searched=forced, frame_seconds=frame_seconds, duration_seconds=duration_seconds
    )
    if transcript is not None:
        return transcript
    # The first label after them went on with the last of them: decode the rest by itself.
    if duration_seconds is not None:
        duration_seconds -= len(path) * frame_seconds
    rest = decoder.decode(emission[len(path) :], frame_seconds=frame_seconds, duration_seconds=duration_seconds)
    beginning = Timeline(frame_seconds=frame_seconds, duration_seconds=len(path) * frame_seconds)
    timeline = replace(beginning, duration_seconds=beginning.duration_seconds + rest.duration_seconds)
    return join_transcripts([opened.place_stable(beginning), rest], [0, len(path)], timeline=timeline)


def _complete(text: str) -> str:
    """The beginning of a spelled text whose words no later character can change, with the space after them."""
    spans = list(find_words(text))
    return text[: spans[-1][0]] if spans and not text[-1].isspace() else text


def _readable(spelled: str) -> str:
    return " ".join(join_bytes(spelled).split())
