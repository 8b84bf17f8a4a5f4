"""The sentences of a text whose words have times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from asr.text.aligned_text import Segment, mean_score
from asr.text.sentence_ends import ends_sentence

SentenceEnd = Literal["punctuation", "line"]


def timed_sentence(
    text: str, spans: Sequence[tuple[int, int]], words: Sequence[int], timed: Mapping[int, Segment]
) -> Segment:
    """The sentence of these words, of which one has a time."""
    parts = tuple(timed[word] for word in words if word in timed)
    edges = parts[0].start, parts[-1].end
    pieces = [
        text[spans[word][0] : spans[after][0] if after == word + 1 else spans[word][1]] + " " * (after != word + 1)
        for word, after in zip(words, [*words[1:], -1], strict=True)
    ]
    return Segment(
        text=" ".join("".join(pieces).split()),
        start_frame=parts[0].start_frame,
        end_frame=parts[-1].end_frame,
        score=mean_score([character for word in parts for character in word.parts]),
        timeline=parts[0].timeline,
        parts=parts,
        position=spans[words[0]][0],
        edges=edges,
    )


def group_sentences(
    text: str, spans: Sequence[tuple[int, int]], timed: set[int], ends_with: SentenceEnd
) -> list[tuple[int, int]]:
    """The sentences as ranges [first, end) of words, each with a timed word; others join a neighbour."""
    groups: list[tuple[int, int]] = []
    start = before = 0
    for end in _sentence_ends(text, spans, ends_with=ends_with):
        if any(index in timed for index in range(before, end)):
            groups.append((start, end))
            start = end
        elif groups:
            groups[-1] = groups[-1][0], end
            start = end
        before = end
    return groups


def _sentence_ends(text: str, spans: Sequence[tuple[int, int]], *, ends_with: SentenceEnd) -> Iterator[int]:
    """For each sentence, the index of the word after its last."""
    for index, (start, end) in enumerate(spans[:-1]):
        next_start, next_end = spans[index + 1]
        num_lines = len(f"{text[end:next_start]}.".splitlines()) - 1
        if ends_with == "line":
            ended = num_lines > 0
        else:
            ended = num_lines > 1 or ends_sentence(text[start:end], text[next_start:next_end])
        if ended:
            yield index + 1
    yield len(spans)
