"""Subtitles by the rules of broadcasters: where to break speech into cues and cues into lines, and when they show.

words ─▶ pieces that fit a line ─▶ cues and lines of the least cost ─▶ times ─▶ cues
                                   dynamic program over the breaks     extended into pauses

The limits are those of the Netflix Timed Text Style Guide (General Requirements; English), as are the preferences:
break at the end of a sentence, after a mark, in a pause, before a conjunction or a preposition; the lower line longer.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from asr.errors import ConfigError
from asr.options import check_options, option
from asr.text.aligned_text import Segment
from asr.text.segments import is_sentence_end
from asr.text.transcript import Word


@dataclass(frozen=True, kw_only=True)
class SubtitleOptions:
    """Limits and form of subtitles (srt, vtt, ass); Chinese, Japanese and Korean characters count as two.

    Raises:
        ConfigError: a value is out of its limits, or two contradict each other.
    """

    line_width: int = option(42, "at most N characters a line", least=10)
    max_lines: int = option(2, "at most N lines in a cue", least=1, most=4)
    reading_speed: float = option(20.0, "at most this many characters a second, where speech allows it", above=0)
    shortest_cue: float = option(0.834, "show a cue for at least this many seconds, where speech allows it", least=0)
    longest_cue: float = option(7.0, "show a cue for at most this many seconds", above=0)
    cue_gap: float = option(0.084, "seconds between cues: two frames", least=0)
    level: Literal["sentence", "word"] = option("sentence", "cues of phrases and sentences, or of one word each")
    highlight_words: bool = option(False, "mark each word while it is spoken (srt, vtt, ass)")

    def __post_init__(self) -> None:
        check_options(self)
        if self.shortest_cue > self.longest_cue:
            raise ConfigError(
                f"shortest_cue must be at most longest_cue, {self.longest_cue:g}; got {self.shortest_cue:g}",
                "shortest_cue",
                "longest_cue",
            )


@dataclass(frozen=True)
class Piece:
    """A word, or the part of one that fits a line, with the gap before it; times in milliseconds."""

    gap: str  # "" or " "
    text: str
    start: int
    end: int
    is_part: bool = False  # not the first part of its word

    @property
    def width(self) -> int:
        """Columns on the screen."""
        return text_width(self.text)


@dataclass(frozen=True)
class Cue:
    """What is shown at once, from start to end in milliseconds."""

    start: int
    end: int
    lines: tuple[tuple[Piece, ...], ...]

    @property
    def texts(self) -> list[str]:
        """The text of each line."""
        return [join_pieces(line) for line in self.lines]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Costs of breaks and cues, without a unit. A break costs as little as its best reason allows.
_SENTENCE_COST, _CLAUSE_COST, _PAUSE_COST, _WORD_COST = 0.0, 2.0, 0.5, 6.0
_PAUSE = 500  # milliseconds that are a reason as good as a mark; shorter ones are better reasons than none
_BEFORE_GAIN, _AFTER_COST = 2.0, 4.0  # before a word of _OPENING, after a word of _BOUND
_PART_COST, _NAME_COST = 20.0, 1000.0  # within a word; after the name of a speaker, which has no time of its own
_CUE_COST = 3.0  # of each cue: fewer are calmer
_ALONE_COST = 6.0  # of a word alone in a cue or a line
_INNER_SENTENCE_COST = 2.0  # of a sentence that ends within a cue
_LONGEST_INNER_PAUSE, _INNER_PAUSE_COST = 300, 1.0  # milliseconds; of each further 100
_LINE_SHARE = 0.5  # of the cost of a break, if it is between two lines of a cue
_UNEVEN_COST, _TOP_HEAVY_COST = 2.0, 1.0  # of a difference of a whole line; again if the upper line is longer
_VIOLATION_COST, _SHORTAGE_COST = 15.0, 15.0  # of a cue with too little time, and of each second that is missing
_CLOSED_GAP = 500  # milliseconds; a shorter gap between cues is closed down to `cue_gap`

_CLAUSE_END = re.compile(r"[,;:–—、，；：]+[\"'”’»)\]]*$")
_MARKS = re.compile(r"^\W+|\W+$")
_OPENING = _words(
    "and but or nor so yet because although though while when where if unless until since that which who whom whose "
    "than as of in on at by for from with to into onto over under between through during before after about against "
    "without within"
)
_BOUND = _OPENING | _words(
    "a an the my your his her its our their this these those no not i you he she it we they is are was were be been am "
    "has have had do does did will would shall should can could may might must very mr mrs ms dr st"
)


def break_costs(pieces: Sequence[Piece]) -> list[float]:
    """The cost of a break after each piece but the last, from marks, pauses and the words on both sides.

    English function words are known; other languages have marks and pauses.
    """
    costs = []
    for piece, following in pairwise(pieces):
        pause = min(max(following.start - piece.end, 0), _PAUSE)
        cost = _WORD_COST + (_PAUSE_COST - _WORD_COST) * pause / _PAUSE
        if following.is_part:
            cost = _NAME_COST if following.gap else _PART_COST
        elif is_sentence_end(piece.text, following.text):
            cost = _SENTENCE_COST
        elif _CLAUSE_END.search(piece.text):
            cost = min(cost, _CLAUSE_COST)
        else:
            if _plain(following.text) in _OPENING:
                cost = max(cost - _BEFORE_GAIN, _PAUSE_COST)
            if _plain(piece.text) in _BOUND:
                cost += _AFTER_COST
        costs.append(cost)
    return costs


def make_cues(
    pieces: Sequence[Piece], options: SubtitleOptions, *, limit: int, costs: Sequence[float] | None = None
) -> list[Cue]:
    """The cues of successive pieces with the least sum of costs, by a dynamic program over the breaks between them.

        best[end] = min over begin of best[begin] + cost of the cue [begin, end) + cost of the break after it

    Args:
        pieces: in order of time, each fits a line.
        options: the limits. Widths and the longest time always hold, but for a single piece; the others if possible.
        limit: the end of the last cue is not later; milliseconds.
        costs: of a break after each piece but the last; None means `break_costs`.
    """
    layout = Layout(pieces, options, limit=limit, costs=break_costs(pieces) if costs is None else costs)
    best, begins = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        lowest, begin_of_lowest = math.inf, end - 1
        for begin in range(end - 1, -1, -1):
            cost = layout.cue_cost(begin, end)
            if cost == math.inf:
                break
            if best[begin] + cost < lowest:
                lowest, begin_of_lowest = best[begin] + cost, begin
        best.append(lowest)
        begins.append(begin_of_lowest)
    ends = [len(pieces)] if pieces else []
    while ends and begins[ends[-1]]:
        ends.append(begins[ends[-1]])
    return [layout.cue(begin, end) for begin, end in pairwise([0, *reversed(ends)])]


class Layout:
    """Costs, lines and times of the cue of the pieces [begin, end), for any begin and end."""

    def __init__(self, pieces: Sequence[Piece], options: SubtitleOptions, *, limit: int, costs: Sequence[float]):
        self.pieces, self.options, self.limit = pieces, options, limit
        self.costs = [*costs, 0.0]  # no break is needed after the last piece
        self.shortest, self.longest = round(1000 * options.shortest_cue), round(1000 * options.longest_cue)
        self.gap = round(1000 * options.cue_gap)
        self.gap_widths = [len(piece.gap) for piece in pieces]
        self.edges = [0]  # columns before each piece, without gaps at the ends of lines
        self.inner_costs = [0.0]  # of pauses and sentence ends before each piece
        for number, piece in enumerate(pieces):
            self.edges.append(self.edges[-1] + self.gap_widths[number] + piece.width)
            inner = 0.0
            if number + 1 < len(pieces):
                pause = pieces[number + 1].start - piece.end
                inner = _INNER_PAUSE_COST * max(pause - _LONGEST_INNER_PAUSE, 0) / 100
                inner += _INNER_SENTENCE_COST * is_sentence_end(piece.text, pieces[number + 1].text)
            self.inner_costs.append(self.inner_costs[-1] + inner)

    def width(self, begin: int, end: int) -> int:
        """Columns of the pieces on one line."""
        return self.edges[end] - self.edges[begin] - self.gap_widths[begin]

    def cue_cost(self, begin: int, end: int) -> float:
        """The cost of a cue and of the break after it; infinite for pieces that do not fit, with more of them too.

        One piece always fits.
        """
        is_alone = end == begin + 1
        if not is_alone:
            is_long = self.pieces[end - 1].end - self.pieces[begin].start > self.longest
            if is_long or self.width(begin, end) >= self.options.max_lines * (self.options.line_width + 1):
                return math.inf
        cost = _CUE_COST + self.costs[end - 1] + self.lines(begin, end)[0]
        cost += self.inner_costs[end - 1] - self.inner_costs[begin]
        if is_alone and len(self.pieces) > 1:
            cost += _ALONE_COST
        missing = self.needed(begin, end) - self.available(begin, end)
        return cost + (_VIOLATION_COST + _SHORTAGE_COST * missing / 1000 if missing > 0 else 0.0)

    def lines(self, begin: int, end: int, num_lines: int | None = None) -> tuple[float, tuple[int, ...]]:
        """The cost of the best lines, and the piece after each line but the last; infinite if they do not fit.

        Two lines or more are used only where one is too narrow.
        """
        num_lines = num_lines or self.options.max_lines
        if self.width(begin, end) <= self.options.line_width:
            return 0.0, ()
        best: tuple[float, tuple[int, ...]] = (0.0 if end == begin + 1 else math.inf, ())
        for middle in range(begin + 1, end) if num_lines > 1 else ():
            top, bottom = self.width(begin, middle), self.width(middle, end)
            if top > self.options.line_width:
                break
            rest, breaks = self.lines(middle, end, num_lines - 1)
            bottom = min(bottom, self.options.line_width)
            cost = rest + _LINE_SHARE * self.costs[middle - 1]
            cost += _UNEVEN_COST * abs(top - bottom) / self.options.line_width
            cost += _TOP_HEAVY_COST * max(top - bottom, 0) / self.options.line_width
            if end - begin > 2:
                cost += _ALONE_COST * ((middle == begin + 1) + (middle == end - 1))
            if cost < best[0]:
                best = cost, (middle, *breaks)
        return best

    def available(self, begin: int, end: int) -> int:
        """Milliseconds from the first piece to the next cue or the longest time."""
        limit = self.pieces[end].start - self.gap if end < len(self.pieces) else self.limit
        return min(limit - self.pieces[begin].start, self.longest)

    def needed(self, begin: int, end: int) -> int:
        """Milliseconds to read the pieces."""
        return max(self.shortest, math.ceil(1000 * self.width(begin, end) / self.options.reading_speed))

    def cue(self, begin: int, end: int) -> Cue:
        """The cue, which stays after the speech until it can be read, or to the next cue if this is near."""
        start, available = self.pieces[begin].start, self.available(begin, end)
        duration = max(self.pieces[end - 1].end - start, self.needed(begin, end))
        if end < len(self.pieces) and available - duration < _CLOSED_GAP:
            duration = available
        edges = [begin, *self.lines(begin, end)[1], end]
        lines = tuple(tuple(self.pieces[first:last]) for first, last in pairwise(edges))
        return Cue(start, start + max(min(duration, available), 1), lines)


def word_cues(pieces: Sequence[Piece], options: SubtitleOptions, *, limit: int) -> list[Cue]:
    """A cue for each piece; it stays for the shortest time, unless the next piece or the limit is earlier.

    The name of a speaker is in the cue of the first word.
    """
    cues, name = [], None
    for piece, following in zip(pieces, [*pieces[1:], None], strict=False):
        if following and following.is_part and following.gap:
            name = piece
            continue
        latest = following.start if following else limit
        end = max(piece.end, min(piece.start + round(1000 * options.shortest_cue), latest))
        end = min(end, piece.start + round(1000 * options.longest_cue))
        is_wide = name and name.width + 1 + piece.width > options.line_width
        lines = ((name,), (piece,)) if name and is_wide else ((name, piece),) if name else ((piece,),)
        cues.append(Cue(piece.start, end, lines))
        name = None
    return cues


def cut_pieces(text: str, words: Sequence[Word | Segment], *, line_width: int, speaker: str = "") -> list[Piece]:
    """The words of a text as pieces; other text between them starts and ends at the end of the word before.

    The name of a speaker is a piece of its own, with the time of the first word.
    """
    position, pieces = 0, []
    last_end = milliseconds(words[0].start) if words else 0
    if speaker:
        pieces.append(Piece("", f"[{speaker}]:", last_end, last_end))
    for word in words:
        start = text.index(word.text, position)
        *untimed, gap = _GAP.split(text[position:start])
        for before, other in zip(untimed[::2], untimed[1::2], strict=True):
            pieces += _parts(before, other, last_end, last_end, line_width)
        position = start + len(word.text)
        last_end = milliseconds(word.end)
        pieces += _parts(gap, word.text, milliseconds(word.start), last_end, line_width)
    *untimed, _ = _GAP.split(text[position:])
    for before, other in zip(untimed[::2], untimed[1::2], strict=True):
        pieces += _parts(before, other, last_end, last_end, line_width)
    if speaker and len(pieces) > 1:
        first = pieces[1]
        pieces[1] = Piece(" ", first.text, first.start, first.end, is_part=True)
    return pieces


def check_cues(cues: Iterable[tuple[int, int, Sequence[str]]], options: SubtitleOptions) -> dict[str, list[int]]:
    """The numbers, from 1, of the cues that violate each rule; a rule without violations has an empty list.

    Args:
        cues: start and end in milliseconds, and lines, in the order of the file.
    """
    shortest, longest, gap = (
        round(1000 * seconds) for seconds in (options.shortest_cue, options.longest_cue, options.cue_gap)
    )
    rules: dict[str, list[int]] = {
        f"a line of more than {options.line_width} characters": [],
        f"more than {options.max_lines} lines": [],
        f"more than {options.reading_speed:g} characters a second": [],
        f"less than {options.shortest_cue:g} s long": [],
        f"more than {options.longest_cue:g} s long": [],
        f"less than {options.cue_gap:g} s after the cue before": [],
        "a word alone on one of several lines": [],
    }
    last_end = -math.inf
    for number, (start, end, lines) in enumerate(cues, start=1):
        words = [line.split() for line in lines]
        width = sum(map(text_width, lines)) + len(lines) - 1
        violations = (
            any(text_width(line) > options.line_width for line in lines),
            len(lines) > options.max_lines,
            1000 * width > options.reading_speed * (end - start),
            end - start < shortest,
            end - start > longest,
            start - last_end < gap,
            len(lines) > 1 and sum(map(len, words)) > 2 and min(map(len, words)) == 1,
        )
        for violated, found in zip(rules.values(), violations, strict=True):
            if found:
                violated.append(number)
        last_end = end
    return rules


_GAP = re.compile(r"(\S+)")


def _parts(gap: str, word: str, start: int, end: int, line_width: int) -> Iterator[Piece]:
    """The parts of a word that is too wide for a line, with shares of its time; else the word."""
    last = 0
    for part in _cut(word, line_width):
        first, last = last, last + len(part)
        yield Piece(
            "" if first else gap,
            part,
            start + (end - start) * first // len(word),
            start + (end - start) * last // len(word),
            is_part=first > 0,
        )


def _cut(word: str, line_width: int) -> list[str]:
    """The word in parts that each fit a line; nearly always one part."""
    parts = [""]
    for character in word:
        if text_width(parts[-1] + character) > line_width:
            parts.append("")
        parts[-1] += character
    return parts


def join_pieces(pieces: Sequence[Piece]) -> str:
    """The text of the pieces, without the gap before the first."""
    return "".join(piece.gap + piece.text for piece in pieces).strip()


def text_width(text: str) -> int:
    """Columns on the screen: Chinese, Japanese and Korean characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds."""
    return int(seconds * 1000 + 0.5)


def _plain(word: str) -> str:
    """A word without marks and capitals."""
    return _MARKS.sub("", word).lower()
