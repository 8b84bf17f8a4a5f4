"""Unspoken marks against words that somebody does, each form by hand."""

from __future__ import annotations

import pytest

from asr.text.marks import find_marks, without_marks


def left(text: str) -> str:
    return " ".join(without_marks(text).split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the [noise] cat", "the cat"),
        ("[Music]", ""),
        ("[indistinct radio chatter] over", "over"),
        ("what [inaudible 00:01:02] then", "what then"),
        ("a [b [c] d] e", "a e"),
        ("so {BREATH} on", "so on"),
        ("【音乐】你好（笑）", "你好"),
        ("<s> the <unk> cat </s>", "the cat"),
        ("<i>never</i> again <NOISE/>", "never again"),
        ("And<00:00:00.500><c> so</c>", "And so"),
        ("<v Ann Lee>fish</v> <font color=\"red\">chips</font>", "fish chips"),
        ("oh (laughs) no", "oh no"),
        ("(LAUGHTER AND APPLAUSE) thanks", "thanks"),
        ("(clears throat) well (upbeat music playing)", "well"),
        ("hm *coughs* yes", "hm yes"),
        ("++NOISE++ yes ++um++", "yes"),
        ("NARRATOR: Once upon a time", "Once upon a time"),
        ("DR. O'NEIL: Yes.\nOLD MAN 2: No.", "Yes. No."),
        ("It rained. NARRATOR: They slept.", "It rained. They slept."),
        ("- ANN: hello", "hello"),
        ("Speaker 1: HELLO", "HELLO"),
        ("narrator: hello", "hello"),
        (">> ANN: HELLO", "HELLO"),
        (">> hello >>> good evening", "hello good evening"),
        ("&gt;&gt; hello", "hello"),
        ("♪ la la la ♪ hello", "hello"),
        ("♪♪", ""),
    ],
)  # fmt: skip
def test_what_nobody_speaks_goes(text: str, expected: str) -> None:
    assert left(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "no (he said) never",
        "the second (music to my ears) was better",
        "see (the laughing cavalier) there",
        "item (2) of it",
        "((not sure of this))",
        "a < b and c > d",
        "I <3 you",
        "5 > 4",
        "it is *really* good",
        "a ** b",
        "John: hello",
        "Remember: the door",
        "it was 10:30 then",
        "at 10: the news",
        "CHAPTER ONE: The river",
        "NOTE: the door",
        "HE SAID: NO",  # in capitals everywhere, as LibriSpeech is
        "the U.S. NAVY: it sails",
        "and NASA: it flies",
        "♪ la la without an end",
        "[ left open, and no end",
        "not\n[on one\nline]",
        f"[{'long ' * 30}]",
        "[] {}",
        "C++ and D++",
        "http://example.org",
    ],
)
def test_what_somebody_may_speak_stays(text: str) -> None:
    assert find_marks(text) == []
    assert without_marks(text) == text


def test_marks_are_found_where_they_stand() -> None:
    text = "[a] cat (laughs)sat"
    assert [text[start:end] for start, end in find_marks(text)] == ["[a]", "(laughs)"]


@pytest.mark.parametrize(
    "begin", ["[", "(", "<v ", "<", "♪ ", "[a", "(laughs", "A. BC: ", "A. BC", "*a", "&gt;", "A ", "++a", "BC: ", "\n "]
)  # fmt: skip
def test_a_long_text_of_beginnings_is_soon_read(begin: str) -> None:
    """In squares of its length, any of them would take an hour."""
    without_marks(begin * (100_000 // len(begin)) + "]:")
