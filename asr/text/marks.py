"""Unspoken marks in a text, which can be left out: [noise], <unk>, (laughs), NARRATOR:, ♪ … ♪.

Ambiguous marks count as speech: words in round brackets that do not name sounds, "(he said)"; a name with small letters
before a colon, "John:"; a label in a text without small letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Span = tuple[int, int]  # [start, end) in characters


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HINT = re.compile("[][<(（{［【♩♪♫♬:：*]|>>|&gt;|[+]{2}")
_OPENING, _CLOSING = "[{［【(（", "]}］】)）"
_LONGEST = 100  # characters between brackets; a longer text is more likely speech after an unclosed bracket
# <unk>, </s>, <00:01.5>, <c.loud>; with spaces only those of subtitles: <v Ann Lee>, <font color="red">.
_TAG = re.compile(r"</?[^\W_][^<>\s]{0,60}>|<(?:v|c|font|lang|span)[. ][^<>]{1,100}>", re.IGNORECASE)
_SPHINX = re.compile(r"\+\+\w{1,30}\+\+")
_SUNG = re.compile(r"[♩♪♫♬]+[^♩♪♫♬]{0,300}[♩♪♫♬]+")  # the sung words often differ from the written lyrics
_TURN = re.compile(r"(?<!\S)(?:>|&gt;){2,3}(?=\s|$|\w)")
_STARRED = re.compile(r"\*([^*\n]{1,60})\*")
# A label begins a line or a sentence, perhaps after >> or a dash.
_LABEL = re.compile(  # the text before a colon
    r"(?:^|(?<=[\n\r])|(?<=[^\WA-Z][.!?…] )|(?<=>>)|(?<=>> )|(?<=&gt;)|(?<=&gt; ))[ \t]{0,20}(?:-[ \t]{0,20})?"
    r"((?:(?:DR|MR|MRS|MS|PROF|REV|SGT|LT|COL|GEN|CAPT|ST)\. )?[^\W\d_][\w'’&-]{0,30}(?: [\w'’&#-]{1,30}){0,2})$"
)
_COLON = re.compile(r"[:：](?=\s|$)")
_LONGEST_LABEL = 150
_NUMBERED = re.compile(
    r"(?:speaker|spk|interviewer|interviewee|narrator|moderator)(?: ?#?[0-9A-Z]{1,3})?", re.IGNORECASE
)
_NOT_A_SPEAKER = _words(
    "ACT ANSWER ATTENTION BOOK CAUTION CHAPTER EXAMPLE FIGURE IMPORTANT NB NOTE PART PS QUESTION SCENE SECTION "
    "TIP TITLE VOLUME WARNING"
)

# Between round brackets or asterisks every word must be one of these, and at least one must be a sound.
_SOUNDS = _words(
    "applause bark barking barks beep beeping beeps bleep breath breathes breathing buzzing chatter chattering "
    "cheering cheers chuckle chuckles chuckling clapping claps cough coughing coughs crosstalk crying exhales "
    "gasp gasping gasps giggle giggles giggling groaning groans growling grunting grunts humming hums inaudible "
    "indistinct inhales laugh laughing laughs laughter moaning moans mumbles mumbling murmuring music noise "
    "panting pause ringing scoffs screaming screams shouting sigh sighing sighs silence singing sings sneezes "
    "sneezing sniffing sniffles sniffs snoring sobbing sobs static unclear unintelligible whispering whistles "
    "whistling yawning yawns lacht lachen gelächter musik applaus rire rires musique applaudissements risa risas "
    "música aplausos risate musica applausi 笑 笑声 音乐 音樂 掌声 掌聲 噪音"
)
_MANNERS = _words(
    "and audience baby background both continues crowd distant dog dramatic ends faint foreign gentle heavily "
    "heavy in indistinctly instrumental light loud loudly nervously over piano playing plays quietly sad soft "
    "softly speech starts stops upbeat voices white"
)
_SOUND_PHRASES = frozenset({"blank audio", "no audio", "clears throat", "door slams", "door opens", "phone rings"})


def find_marks(text: str) -> list[Span]:
    """The spans of the marks of a text, in order, without overlap.

    Marks are: a tag, <unk> or </i>; up to 100 characters in square or curly brackets on one line; words for sounds in
    round brackets or between asterisks, (laughs); ++noise++; lyrics between notes, ♪ la la ♪; >> for a new speaker; and
    the name of a speaker at the start of a line or a sentence: at most three words in capitals before a colon, in a
    text with small letters or after >>, and Speaker 1: or narrator: in any case.
    """
    if not _HINT.search(text):
        return []
    patterns = (_TAG, _SPHINX, _SUNG, _TURN)
    spans = [match.span() for pattern in patterns for match in pattern.finditer(text)]
    spans += [match.span() for match in _STARRED.finditer(text) if _is_sound(match[1])]
    return list(_joined([*spans, *_bracketed(text), *_labels(text)]))


def without_marks(text: str) -> str:
    """The text with each mark replaced by a space; repeated, because this may reveal further marks."""
    for _ in range(8):
        if not (marks := find_marks(text)):
            break
        ends = [0, *(end for _, end in marks)]
        text = " ".join(text[end:start] for end, (start, _) in zip(ends, [*marks, (len(text), 0)], strict=True))
    return text


def _bracketed(text: str) -> Iterator[Span]:
    """Marks in brackets; brackets inside brackets are separate marks."""
    opened: list[tuple[int, str]] = []
    for match in re.finditer(r"[][{}［］【】()（）\n]", text):
        position, character = match.start(), match[0]
        if character == "\n":
            opened.clear()
        elif character in _OPENING:
            opened.append((position, _CLOSING[_OPENING.index(character)]))
        elif opened and opened[-1][1] == character:
            start, _ = opened.pop()
            inner = text[start + 1 : position] if position - start - 1 <= _LONGEST else ""
            if _is_sound(inner) if character in ")）" else inner.strip():
                yield start, position + 1


def _is_sound(words: str) -> bool:
    """Whether all words name sounds or their manner, at least one a sound."""
    names = re.sub(r"[\W_]", " ", words.lower()).split()
    return " ".join(names) in _SOUND_PHRASES or (
        not _SOUNDS.isdisjoint(names) and all(word in _SOUNDS or word in _MANNERS for word in names)
    )


def _labels(text: str) -> Iterator[Span]:
    has_small = any(map(str.islower, text))
    for colon in _COLON.finditer(text):
        end = colon.start()
        if not (match := _LABEL.search(text, max(end - _LONGEST_LABEL, 0), end)):
            continue
        name, start = match[1], match.start()
        first = re.split(r"\W", name, maxsplit=1)[0]
        capitals = len(name) > 1 and name.isupper() and first not in _NOT_A_SPEAKER
        after_turn = text[max(start - 6, 0) : start].rstrip().endswith((">>", "&gt;"))
        if (capitals and (has_small or after_turn)) or _NUMBERED.fullmatch(name):
            yield start, colon.end()


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans in order; overlapping ones are joined."""
    start = end = -1
    for first, last in sorted(spans):
        if first > end:
            if end > start:
                yield start, end
            start, end = first, last
        else:
            end = max(end, last)
    if end > start:
        yield start, end
