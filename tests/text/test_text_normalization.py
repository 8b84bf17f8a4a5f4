"""Normalisation against hand-worked spellings and its own invariances; the alphabet against its inverse."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.errors import ConfigError, InputError
from asr.text.alphabet import BLANK, Alphabet
from asr.text.normalization import TextOptions, normalize

ENGLISH = TextOptions()
CHINESE = TextOptions(language="zh")
any_options = st.builds(
    TextOptions,
    language=st.sampled_from(["en", "zh", "fr"]),
    case=st.sampled_from(["upper", "lower", "keep"]),
    punctuation=st.sampled_from(["drop", "keep"]),
    marks=st.sampled_from(["drop", "keep"]),
)
# Plain st.text() hardly ever puts the awkward ones side by side.
awkward = st.text(
    alphabet=st.sampled_from("aNnß'\u2019\u02bc .,-_ e\u0301\u200d\u00ad\ufe0f\u0130\u03a3好棒，Ａ１\u3000\n[](<>):♪*A")
)


@given(st.text(alphabet=st.sampled_from("aNn'1 .,-_~\t")), any_options)
@example("1's s'1 a'_ n'' 'n", ENGLISH)
@example("a 'n' 'N'a", ENGLISH)
def test_ascii_is_spelled_as_in_any_other_text(text: str, options: TextOptions) -> None:
    """ASCII has a way of its own, which is faster; a letter outside ASCII leads to the general one."""
    other = normalize("\u0435", options)
    assert normalize(f"{text} \u0435", options) == f"{normalize(text, options)} {other}".strip()


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("Hello,  world!\n", "HELLO WORLD"),
        ("don't", "DON'T"),
        ("don\u2019t", "DON'T"),
        ("don\u02bct", "DON'T"),  # a letter to Unicode
        ("rock \u2018n\u2019 roll", "ROCK 'N' ROLL"),
        ("'n' stays, 'x' goes", "'N' STAYS X GOES"),
        ("\u2018He said \u201cno\u201d.\u2019", "HE SAID NO"),
        ("the dogs' 'hello'", "THE DOGS HELLO"),
        ("well-known \u2013 and\u2014so_on", "WELL KNOWN AND SO ON"),
        ("U.S.A., 3.14", "U S A 3 14"),
        ("50% of $5", "50 OF 5"),
        ("cafe\u0301", "CAF\u00c9"),
        ("Stra\u00dfe", "STRASSE"),
        ("\ufeffco\u00adoperate\u0007", "COOPERATE"),
        ("heart \u2764\ufe0f end", "HEART END"),
        ("family \U0001f468\u200d\U0001f469 end", "FAMILY END"),
        (".\u0301x", "X"),
        ("x\u0301y", "X\u0301Y"),  # NFC has no letter for it
        ("the '90's, x\u0301's", "THE 90'S X\u0301'S"),
        ("a'\u0301b", "A B"),
    ],
)
def test_english_hand_worked(text: str, normalized: str) -> None:
    assert normalize(text, ENGLISH) == normalized


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("好棒。", "好棒"),
        ("好 棒\u3000棒", "好棒棒"),
        ("他说：\u2018好\u2019吧", "他说好吧"),  # an apostrophe beside Han is a quote
        ("我 用 Python 写", "我用PYTHON写"),
        ("我用Python写。", "我用PYTHON写"),
        ("ＡＢＣ１２３！", "ABC123"),
        ("don't worry 好", "DON'T WORRY好"),
        ("new york 纽约", "NEW YORK纽约"),
        ("\u4f60\U00020000 \U00020000", "\u4f60\U00020000\U00020000"),
    ],
)
def test_chinese_hand_worked(text: str, normalized: str) -> None:
    assert normalize(text, CHINESE) == normalized


def test_other_languages_keep_inner_apostrophes_and_letters_that_look_like_one() -> None:
    french = TextOptions(language="fr", case="lower")
    assert normalize("L\u2019eau, \u00abc'est\u00bb 'n'", french) == "l'eau c'est n"
    assert normalize("\u02bcupa", TextOptions(language="ha", case="keep")) == "\u02bcupa"


def test_case_and_punctuation_can_be_kept() -> None:
    text = " Well-known,  \u2018No\u2019! "
    assert normalize(text, TextOptions(case="keep", punctuation="keep")) == "Well-known, \u2018No\u2019!"
    assert normalize(text, TextOptions(case="lower")) == "well known no"
    assert normalize("STRA\u1e9eE Stra\u00dfe", TextOptions(language="de", case="lower")) == "stra\u00dfe stra\u00dfe"
    assert normalize("好， 棒！", TextOptions(language="zh", punctuation="keep")) == "好，棒！"


@settings(deadline=None)
@given(st.text() | awkward, any_options)
def test_normalizing_twice_changes_nothing(text: str, options: TextOptions) -> None:
    once = normalize(text, options)
    assert normalize(once, options) == once


@settings(deadline=None)
@given(st.text() | awkward, any_options)
def test_normalized_text_is_what_an_alphabet_takes(text: str, options: TextOptions) -> None:
    once = normalize(text, options)
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())
    if options.punctuation == "drop":
        assert not [c for c in once if unicodedata.category(c)[0] in "PS" and c != "'"]
    if once and not any(unicodedata.category(c) == "Cs" for c in once):
        alphabet = Alphabet.from_texts([once])
        assert alphabet.decode(alphabet.encode(once)) == once


@settings(deadline=None)
@given(st.text() | awkward, any_options)
def test_composed_and_decomposed_text_normalize_alike(text: str, options: TextOptions) -> None:
    assert normalize(unicodedata.normalize("NFD", text), options) == normalize(
        unicodedata.normalize("NFC", text), options
    )


@pytest.mark.parametrize("language", ["", "EN", "en-US", "english", None])
def test_options_refuse_a_language_that_is_no_primary_tag(language: str) -> None:
    with pytest.raises(ConfigError, match=r"language must be a BCP-47 primary tag.*got"):
        TextOptions(language=language)


def test_options_refuse_unknown_choices() -> None:
    with pytest.raises(ConfigError, match="case must be one of upper, lower, keep, not 'title'"):
        TextOptions(case="title")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="punctuation must be one of drop, keep, not True"):
        TextOptions(punctuation=True)  # type: ignore[arg-type]


def test_marks_go_stay_or_are_refused() -> None:
    text = "NARRATOR: the [noise] cat (he said) <unk> sat."
    assert normalize(text, ENGLISH) == "THE CAT HE SAID SAT"
    assert normalize(text, TextOptions(marks="keep")) == "NARRATOR THE NOISE CAT HE SAID UNK SAT"
    assert normalize(text, TextOptions(case="keep", punctuation="keep")) == "the cat (he said) sat."
    assert normalize("我【音乐】们", CHINESE) == "我们"
    refusing = TextOptions(marks="refuse")
    assert normalize("the cat (he said)", refusing) == "THE CAT HE SAID"
    with pytest.raises(InputError, match=r"must have no marks, but has '\[noise\]' in .*; correct the text, or drop"):
        normalize("the [noise] cat", refusing)


def test_options_carry_help_for_each_flag() -> None:
    assert all(each.metadata["help"] for each in dataclasses.fields(TextOptions))


def test_alphabet_by_hand() -> None:
    alphabet = Alphabet((" ", "'", "A", "好", "棒"))
    assert alphabet.size == 6
    assert alphabet.encode("好棒棒 A") == [4, 5, 5, 1, 3]
    assert alphabet.decode([4, 5, 5, 1, 3]) == "好棒棒 A"
    assert alphabet.encode("") == []
    assert alphabet.decode([]) == ""


def test_alphabet_from_texts_is_sorted_whatever_the_order() -> None:
    texts = ["ZOE'S", "好棒", "A B"]
    alphabet = Alphabet.from_texts(texts)
    assert alphabet.characters == (" ", "'", "A", "B", "E", "O", "S", "Z", "好", "棒")
    assert Alphabet.from_texts(iter(texts[::-1])) == alphabet
    assert " " not in Alphabet.from_texts(["好棒", "棒"]).characters


def test_alphabet_composes_before_it_looks_up() -> None:
    alphabet = Alphabet.from_texts(["cafe\u0301"])
    assert alphabet.characters == ("a", "c", "f", "\u00e9")
    assert alphabet.encode("cafe\u0301") == alphabet.encode("caf\u00e9") == [2, 1, 3, 4]
    assert alphabet.spell("cafe\u0301") == (2, 1, 3, 4) and alphabet.spell("") == () and alphabet.spell("cafe") is None


def test_alphabet_is_a_value() -> None:
    alphabet = Alphabet.from_texts(["A好 '"])
    again = Alphabet(alphabet.characters)
    assert again == alphabet
    assert hash(again) == hash(alphabet)
    with pytest.raises(dataclasses.FrozenInstanceError):
        alphabet.characters = ()  # type: ignore[misc]


def test_encode_names_a_character_outside_the_alphabet() -> None:
    alphabet = Alphabet.from_texts(["CAF "])
    message = r"character 3 of 'CAF\u00c9 CAF' is '\u00c9' \(U\+00C9 LATIN CAPITAL LETTER E WITH ACUTE\)"
    with pytest.raises(InputError, match=message):
        alphabet.encode("CAFE\u0301 CAF")
    with pytest.raises(InputError, match=r"character 50 of '…C{20}xC{20}…' is 'x' \(U\+0078"):
        alphabet.encode("C" * 50 + "x" + "C" * 50)


def test_encode_counts_what_it_is_told_to_drop() -> None:
    dropped: Counter[str] = Counter()
    alphabet = Alphabet.from_texts(["AB"])
    assert alphabet.encode("A?B?好", dropped=dropped) == [1, 2]
    assert alphabet.encode("好", dropped=dropped) == []
    assert dropped == {"?": 2, "好": 2}


@pytest.mark.parametrize("integer", [int, np.int32, np.int64])
def test_decode_takes_any_integers(integer: type) -> None:
    assert Alphabet.from_texts(["AB"]).decode(map(integer, [2, 1, 1])) == "BAA"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, BLANK], r"labels must lie in 1 \.\. 2; labels\[1\] is 0; collapse the path first"),
        ([3], r"labels must lie in 1 \.\. 2; labels\[0\] is 3$"),
        ([-1], r"labels must lie in 1 \.\. 2; labels\[0\] is -1$"),
        ([2, 1.0], r"labels must be integers; labels\[1\] is 1\.0"),
    ],
)
def test_decode_refuses_labels_without_a_spelling(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Alphabet.from_texts(["AB"]).decode(labels)


def test_characters_that_nfc_spells_otherwise_stay_as_they_are() -> None:
    hebrew = Alphabet(("\u05e9", "\ufb2a", "\ufb2c", "\u05bc"))  # shin; with its dot; with dagesh and dot; dagesh
    assert hebrew.decode([2, 1, 3]) == "\ufb2a\u05e9\ufb2c"
    for text in ("\ufb2a\u05e9\ufb2c", "\u05e9\u05c1\u05e9\u05e9\u05bc\u05c1", "\u05e9\u05c1\u05e9\u05e9\u05c1\u05bc"):
        assert hebrew.encode(text) == list(hebrew.spell(text) or ()) == [2, 1, 3]
    assert Alphabet(("\u212b",)).encode("A\u030a") == [1]
    assert Alphabet(("\u212b", "\u00c5")).encode("\u212b") == [2]  # both are there: text in NFC means the other


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ((), r"tuple of at least one character; got \(\)"),
        ("AB", "tuple of at least one character; got 'AB'"),
        (("A", ""), r"characters\[1\] must be one visible code point.*got '', which has 0 code points"),
        (("A", "BC"), r"characters\[1\].*got 'BC', which has 2 code points"),
        (("e\u0301",), r"characters\[0\].*has 2 code points"),
        (("A", 1), r"characters\[1\].*got 1, which is int, not str"),
        (("A", "B", "A", "B"), "must differ; repeated: 'A', 'B'"),
        (("\n",), r"is white space \(U\+000A\)"),
        (("\u3000",), r"is white space \(U\+3000 IDEOGRAPHIC SPACE\)"),
        (("\u0007",), r"is a control.* \(U\+0007\)"),
        (("\ufeff",), r"is a control.* \(U\+FEFF ZERO WIDTH NO-BREAK SPACE\)"),
        (("\udc80",), r"is a control.* \(U\+DC80\)"),
    ],
)
def test_alphabet_refuses(characters: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Alphabet(characters)


def test_alphabet_refuses_what_is_no_list_of_texts() -> None:
    with pytest.raises(InputError, match="texts must be several texts, not one str; got 'ABC'"):
        Alphabet.from_texts("ABC")
    with pytest.raises(InputError, match="at least one character"):
        Alphabet.from_texts(["", ""])
