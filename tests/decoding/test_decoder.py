from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pytest
import torch

from asr.ctc.collapse import collapse
from asr.decoding import beam_search as search
from asr.decoding.beam_search import spell, spell_words
from asr.decoding.confidence import calibrated, evidence, of_utterance
from asr.decoding.decoder import Decoder, decode
from asr.decoding.options import DecodingOptions, LanguageOptions
from asr.decoding.places import place_tokens
from asr.errors import AsrWarning, ConfigError, DataError, InputError
from asr.options import from_json, replace_options
from asr.text.alphabet import Alphabet

ENGLISH = Alphabet((" ", "A", "B", "C", "'"))
CHINESE = Alphabet(("好", "棒", "P", "y", " "))


def emission_of(path: str, alphabet: Alphabet, *, peak: float = 0.9) -> np.ndarray:
    """(T, V) log-probabilities with `peak` for each character of the path, - being Φ, and the rest shared out."""
    labels = [0 if character == "-" else alphabet.characters.index(character) + 1 for character in path]
    probabilities = np.full((len(path), alphabet.size), (1 - peak) / (alphabet.size - 1))
    probabilities[np.arange(len(path)), labels] = peak
    return np.log(probabilities).astype(np.float32)


def frames(transcript) -> list[tuple[str, int, int]]:
    return [(word.text, word.start_frame, word.end_frame) for word in transcript.words]


def test_words_by_hand():
    transcript = decode(emission_of("--AAB- -C-C-", ENGLISH), ENGLISH, frame_seconds=0.04)
    assert transcript.text == "AB CC"
    assert frames(transcript) == [("AB", 2, 5), ("CC", 8, 11)]
    assert [(word.start, word.end) for word in transcript.words] == [(2 * 0.04, 5 * 0.04), (8 * 0.04, 11 * 0.04)]
    assert transcript.duration_seconds == 12 * 0.04
    (best,) = transcript.hypotheses
    assert best.text == "AB CC"
    assert best.tokens == (2, 3, 1, 4, 4)
    assert best.spans == ((2, 4), (4, 5), (6, 7), (8, 9), (10, 11))
    assert best.score == pytest.approx(12 * math.log(0.9), rel=1e-6)
    assert transcript.options == {"beam_width": 1}


def test_confidence_is_a_mean_of_characters_whatever_their_lengths():
    probabilities = [[0.1, 0, 0.9, 0, 0, 0], [0.6, 0, 0.4, 0, 0, 0], [0.2, 0, 0, 0.8, 0, 0], [0.2, 0, 0, 0.8, 0, 0]]
    with np.errstate(divide="ignore"):
        (word,) = decode(np.log(probabilities), ENGLISH).words
    assert word.text == "AB"
    assert word.confidence == pytest.approx(math.sqrt(0.9 * 0.8))


def test_stray_spaces_leave_no_trace_in_the_text():
    transcript = decode(emission_of(" -A - -B -", ENGLISH), ENGLISH)
    assert transcript.text == transcript.hypotheses[0].text == "A B"
    assert frames(transcript) == [("A", 2, 3), ("B", 7, 8)]
    assert len(transcript.hypotheses[0].tokens) == 6


def test_chinese_characters_are_words():
    transcript = decode(emission_of("好-棒棒-棒Py", CHINESE), CHINESE)
    assert transcript.text == "好棒棒Py"
    assert frames(transcript) == [("好", 0, 1), ("棒", 2, 4), ("棒", 5, 6), ("Py", 6, 8)]


@pytest.mark.parametrize("path", ["", "-", "-----", " ", "- -"])
def test_nothing_said(path):
    transcript = decode(emission_of(path, ENGLISH).reshape(-1, 6), ENGLISH, frame_seconds=0.04)
    assert (transcript.text, transcript.words, transcript.hypotheses[0].text) == ("", (), "")
    assert transcript.duration_seconds == len(path) * 0.04
    assert transcript.hypotheses[0].score <= 0


def test_one_frame_says_one_word():
    assert frames(decode(emission_of("A", ENGLISH), ENGLISH)) == [("A", 0, 1)]


def test_random_emissions_give_words_in_order_within_the_sound():
    rng = np.random.default_rng(20061)
    for _ in range(100):
        num_frames = int(rng.integers(1, 60))
        emission = np.log(rng.dirichlet(np.full(6, 0.3), size=num_frames))
        emission = np.maximum(emission, -50.0)
        duration = 0.04 * (num_frames - rng.uniform(0.1, 0.9))
        transcript = decode(emission, ENGLISH, frame_seconds=0.04, duration_seconds=duration)
        labels = collapse(emission.argmax(axis=1), blank=0)
        assert transcript.text.split() == "".join(ENGLISH.characters[label - 1] for label in labels).split()
        assert transcript.text == " ".join(word.text for word in transcript.words)
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(word.start < word.end and 0 < word.confidence <= 1 for word in transcript.words)
        assert all(0 <= time <= duration for time in times)


def test_a_word_that_ends_in_the_last_partial_frame_ends_with_the_sound():
    transcript = decode(emission_of("-A-B", ENGLISH), ENGLISH, frame_seconds=0.04, duration_seconds=0.15)
    assert transcript.words[0].end == 0.15
    assert transcript.duration_seconds == 0.15


def test_a_frame_past_the_sound_moves_its_words_back_inside():
    emission = emission_of("--A B", ENGLISH)  # frames of 0.04 s; the fifth begins where the sound ends
    transcript = decode(emission, ENGLISH, frame_seconds=0.04, duration_seconds=0.16)
    assert frames(transcript) == [("A", 2, 3), ("B", 3, 4)]
    packed = decode(emission_of("-好棒好棒", CHINESE), CHINESE, frame_seconds=0.04, duration_seconds=0.16)
    assert frames(packed) == [("好", 0, 1), ("棒", 1, 2), ("好", 2, 3), ("棒", 3, 4)]
    assert packed.hypotheses[0].spans == ((1, 2), (2, 3), (3, 4), (4, 5))


@pytest.mark.parametrize("options", [None, DecodingOptions.of(beam_width=8)])
def test_a_sound_of_no_frame_has_no_words(options):
    transcript = decode(emission_of("A", ENGLISH), ENGLISH, options, frame_seconds=0.04, duration_seconds=0.0001)
    assert (transcript.text, transcript.words, transcript.hypotheses[0].text) == ("", (), "A")


def test_a_sound_longer_than_its_frames_keeps_its_length():
    transcript = decode(emission_of("A", ENGLISH), ENGLISH, frame_seconds=0.04, duration_seconds=2.5)
    assert (transcript.duration_seconds, transcript.words[0].end) == (2.5, 0.04)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_as_good_as_arrays(dtype):
    tensor = torch.from_numpy(emission_of("AB- -C-C", ENGLISH)).to(dtype).requires_grad_()
    assert decode(tensor, ENGLISH).text == "AB CC"


def test_flat_rows_in_bfloat16_are_log_probabilities():
    labels = Alphabet(tuple(map(chr, range(0xAC00, 0xAC00 + 4999))))
    tensor = torch.zeros(2, 5000).log_softmax(dim=1).bfloat16()
    assert abs(tensor.float().exp().sum(dim=1) - 1).max() > 0.015
    assert len(decode(tensor, labels).text) <= 2


def test_minus_infinity_is_a_probability():
    with np.errstate(divide="ignore"):
        assert decode(np.log(np.eye(6)[[2, 0, 2]]), ENGLISH).text == "AA"


def test_the_emission_is_left_unchanged():
    emission = emission_of("AB", ENGLISH)
    before = emission.copy()
    emission.flags.writeable = False
    decode(emission, ENGLISH)
    assert (emission == before).all()


GOOD = emission_of("AB-C", ENGLISH)


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (GOOD[None], r"log_probs must be \(T, V\), one utterance; got shape \(1, 4, 6\)"),
        (GOOD[0], r"got shape \(6,\)"),
        (GOOD[:, :5], "one column for each of the 6 labels, Φ included; got 5"),
        (np.zeros((4, 6), dtype=np.int64), "log_probs must hold floating-point numbers; got int64"),
        (np.exp(GOOD), r"each row of which sums to 1 once exponentiated; row 0 sums to 7\.\d+; apply log_softmax"),
        (GOOD + 2.0, r"row 0 sums to 7\.389"),
        (np.vstack([GOOD, GOOD[:1] - 1.0]), r"row 4 sums to 0\.3679"),
        (GOOD / math.log(10), "row 0 sums to"),
        (np.full((2, 6), -np.inf), "row 0 sums to 0;"),
        (np.full((2, 6), 1e6, dtype=np.float32), "row 0 sums to inf;"),
        (np.where(np.arange(6) == 3, np.nan, GOOD), "log_probs must not hold NaN; the first is in row 0"),
    ],
)
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_what_is_not_log_probabilities_is_refused(convert, log_probs, message):
    with pytest.raises(InputError, match=message):
        decode(convert(log_probs), ENGLISH)


def test_a_sound_too_short_for_its_frames_is_refused():
    with pytest.raises(InputError, match=r"must cover at least 3 of the 4 frames of 0\.04 s; 0\.06 s"):
        decode(GOOD, ENGLISH, frame_seconds=0.04, duration_seconds=0.06)
    with pytest.raises(InputError, match="frame_seconds must be positive"):
        decode(GOOD, ENGLISH, frame_seconds=0.0)


ARPA = """\\data\\
ngram 1={unigrams}
ngram 2={bigrams}

\\1-grams:
{ones}

\\2-grams:
{twos}

\\end\\
"""


@pytest.fixture
def words_lm(tmp_path) -> str:
    """A bigram model in which A CAB is likely, and A CAC is not."""
    ones = ["-1\t<unk>", "-99\t<s>\t0", "-1\t</s>", "-0.7\tA\t0", "-0.7\tCAB\t0", "-0.7\tCAC\t0"]
    twos = ["-0.1\tA CAB", "-3\tA CAC"]
    path = tmp_path / "words.arpa"
    path.write_text(
        ARPA.format(unigrams=len(ones), bigrams=len(twos), ones="\n".join(ones), twos="\n".join(twos)), encoding="utf-8"
    )
    return str(path)


def ambiguous() -> np.ndarray:
    """A CAB or A CAC, the latter a little likelier."""
    emission = emission_of("A -CAC-", ENGLISH)
    emission[5] = np.log([0.02, 0.02, 0.02, 0.44, 0.48, 0.02])
    return emission


def test_a_language_model_decides_what_the_sound_leaves_open(words_lm):
    emission = ambiguous()
    assert decode(emission, ENGLISH).text == "A CAC"
    plain = decode(emission, ENGLISH, DecodingOptions.of(beam_width=8, num_best=2))
    assert [hypothesis.text for hypothesis in plain.hypotheses] == ["A CAC", "A CAB"]
    assert plain.hypotheses[0].lm is None
    options = DecodingOptions.of(beam_width=8, num_best=2, lm=words_lm, lm_weight=0.5)
    transcript = decode(emission, ENGLISH, options)
    best, second = transcript.hypotheses
    assert (transcript.text, best.text, second.text) == ("A CAB", "A CAB", "CAC")
    assert best.lm == pytest.approx(math.log(10) * (-0.7 - 0.1 - 1))  # A after <s>, CAB after A, </s>
    assert best.score == pytest.approx(best.acoustic + 0.5 * best.lm)
    assert transcript.options["lm"] == words_lm
    assert frames(transcript) == [("A", 0, 1), ("CAB", 3, 6)]


def test_a_language_model_of_characters_needs_no_lexicon(tmp_path):
    ones = ["-1\t<unk>", "-99\t<s>\t0", "-1\t</s>", *(f"-0.8\t{c}\t0" for c in ("<space>", "a", "b", "c"))]
    twos = ["-0.01\ta b", "-3\ta c"]
    path = tmp_path / "characters.arpa"
    path.write_text(ARPA.format(unigrams=len(ones), bigrams=2, ones="\n".join(ones), twos="\n".join(twos)))
    options = DecodingOptions.of(beam_width=8, lm=str(path), lm_weight=0.5)
    assert decode(ambiguous(), ENGLISH, options).text == "A CAB"  # the model's characters are in lower case


def test_a_word_list_makes_a_recogniser_of_commands(tmp_path):
    path = tmp_path / "commands.txt"
    path.write_text("a\n\nCAB\n", encoding="utf-8")
    options = DecodingOptions.of(beam_width=8, lexicon=str(path), only_lexicon=True)
    assert decode(ambiguous(), ENGLISH, options).text == "A CAB"
    nothing = decode(emission_of("B", ENGLISH, peak=0.999), ENGLISH, options)
    assert nothing.text in ("", "A")  # B is no command
    with np.errstate(divide="ignore"):
        impossible = decode(np.log(np.eye(6)[[3]]), ENGLISH, options)
    assert (impossible.text, impossible.words, impossible.hypotheses[0].score) == ("", (), -1e9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A\nA B\n", "commands.txt:2: a line of a lexicon must be one word, not 'A B'"),
        ("A\n我B\n", "commands.txt:2: a line .* must be one word, as each Chinese character is, not "),
        ("A\nXYZ\n", "commands.txt:2: 'XYZ' cannot be spelled in the model's alphabet"),
        ("\n", "commands.txt: a lexicon must have at least one word; it has none"),
        (None, "commands.txt: this file of words cannot be read: No such file or directory"),
        (b"CAB\n\xff", "commands.txt:2: must be text in utf-8: invalid start byte"),
    ],
)
def test_a_bad_lexicon_is_refused(tmp_path, content, message):
    path = tmp_path / "commands.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        decode(GOOD, ENGLISH, DecodingOptions.of(beam_width=2, lexicon=str(path)))


@pytest.mark.parametrize("alphabet", [ENGLISH, Alphabet(("A", "B", "C", " ")), Alphabet(tuple("ABC'"))])
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["AB"],
        ["AB", "C", "BA"],
        ["ab", "C"],
        ["A\u00a0B", "C"],
        ["A\u0301", "B"],
        ["C\u2019B", "", "A"],
        ["Z", "A"],
    ],
)
def test_words_are_spelled_together_as_one_by_one(alphabet, words):
    apart = [spell(word, alphabet) if len(word.split()) == 1 else () for word in words]
    assert spell_words(words, alphabet) == apart


def test_words_of_several_chinese_characters_are_several_words():
    assert spell_words(["好", "好棒", "Py", "好P"], CHINESE) == [(1,), (), (3, 4), ()]
    options = DecodingOptions.of(beam_width=8, lexicon=["Py"], only_lexicon=True, hotwords=["好棒:2"])
    assert decode(emission_of("好棒-P", CHINESE), CHINESE, options).text == "好棒"


@pytest.mark.parametrize("spelling", ["cab", "CAB", "Cab"])
def test_a_hotword_is_found_and_told_with_its_place(spelling):
    transcript = decode(ambiguous(), ENGLISH, DecodingOptions.of(beam_width=8, hotwords=(f"{spelling}:3", "BB")))
    assert transcript.text == "A CAB"
    (spotted,) = transcript.hypotheses[0].hotwords
    assert (spotted.text, spotted.start_frame, spotted.end_frame) == ("CAB", 3, 6)
    best = transcript.hypotheses[0]
    assert best.score == pytest.approx(best.acoustic + 3)


def test_hotwords_do_not_move_words():
    emission = emission_of("-A--CCA-B-- B", ENGLISH, peak=0.999)
    plain = decode(emission, ENGLISH)
    helped = decode(emission, ENGLISH, DecodingOptions.of(beam_width=8, hotwords=("acab:5", "B:2")))
    assert frames(helped) == frames(plain)
    assert [spotted.text for spotted in helped.hypotheses[0].hotwords] == ["ACAB", "B"]


def test_hotwords_that_cannot_be_spelled_are_named_and_the_rest_is_used(tmp_path):
    (tmp_path / "names.txt").write_text("CAB:3\n\nROUTE 66\nC\u2019B\n", encoding="utf-8")
    options = DecodingOptions.of(beam_width=8, hotwords=("É:2", f"@{tmp_path / 'names.txt'}", "A\u02bcA"))
    with pytest.warns(AsrWarning) as caught:
        decoder = Decoder(ENGLISH, options)
    (message,) = [str(each.message) for each in caught]
    assert message == (
        "hotwords must be spelled in the model's alphabet; 'É' has 'É'; "
        f"{tmp_path / 'names.txt'}:3: 'ROUTE 66' has 'R', 'O', 'U', 'T', 'E', '6'; left out"
    )
    assert [each.text for each in decoder._hotwords] == ["CAB", "C'B", "A'A"]
    assert decoder.decode(ambiguous()).text == "A CAB"
    (tmp_path / "names.txt").write_text("CAB\nCAB:\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"names\.txt:2: a hotword must be WORD or WORD:NATS; got 'CAB:'"):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, hotwords=(f"@{tmp_path / 'names.txt'}",)))


@pytest.mark.parametrize(
    "spelling", ["C'B", "c\u2019b", "C\u02bcB", "C\u2018B", "C\uff07B", "C\u2032B", "C`B", "C\u00b4B"]
)
def test_any_apostrophe_is_that_of_the_alphabet(spelling):
    assert spell(spelling, ENGLISH) == (4, 5, 3)
    assert spell(spelling, Alphabet(("B", "C", "\u02bc"))) == (2, 3, 1)
    assert spell(spelling, Alphabet(("B", "C"))) == ()
    both = Alphabet(("B", "C", "'", "\u2019"))
    assert spell(spelling, both) == (2, 4 if "\u2019" in spelling else 3, 1)


def test_a_hyphen_is_a_space_where_the_alphabet_has_none():
    options = DecodingOptions.of(beam_width=8, hotwords=("A-B", "a\u2011cab:3", "B -C", "'-B"))
    decoder = Decoder(ENGLISH, options)
    assert [each.text for each in decoder._hotwords] == ["A B", "A CAB", "B C", "' B"]
    assert decoder.hotword_spellings == {
        ("a", "b"): "A-B",
        ("a", "cab"): "a\u2011cab",
        ("b", "c"): "B -C",
        ("'", "b"): "'-B",
    }
    assert [match.text for match in decoder.decode(ambiguous()).hypotheses[0].hotwords] == ["A CAB"]
    hyphens = Decoder(Alphabet(("A", "B", " ", "-")), DecodingOptions.of(beam_width=8, hotwords=("a-b",)))
    assert [each.text for each in hyphens._hotwords] == ["A-B"] and hyphens.hotword_spellings == {("a-b",): "a-b"}
    for alphabet, hotword, missing in ((Alphabet(("好",)), "好-", "'-'"), (ENGLISH, "É-A", "'É'")):
        with pytest.raises(InputError, match=f"in the model's alphabet; '{hotword}' has {missing}$"):
            Decoder(alphabet, DecodingOptions.of(beam_width=8, hotwords=(hotword,)))


@pytest.mark.parametrize(
    ("hotword", "words"),
    [
        ("iPhone 15", "IPHONE FIFTEEN"),
        ("3M", "THREE M"),  # no million
        ("4K", "FOUR K"),
        ("R2-D2", "R TWO D TWO"),
        ("7-Eleven", "SEVEN ELEVEN"),
        ("Boeing 747", "BOEING SEVEN HUNDRED FORTY SEVEN"),
        ("101st", "ONE HUNDRED FIRST"),
        ("101 St James", "ONE HUNDRED ONE ST JAMES"),
        ("Ubuntu 22.04", "UBUNTU TWENTY TWO POINT ZERO FOUR"),
    ],
)
@pytest.mark.parametrize("others", [(), ("-",)])
def test_figures_in_hotwords_are_expected_as_english_says_them(hotword, words, others):
    pytest.importorskip("num2words")
    letters = Alphabet((" ", *ascii_uppercase, "'", *others))
    decoder = Decoder(letters, DecodingOptions.of(beam_width=8, hotwords=(hotword,)))
    assert [each.text for each in decoder._hotwords] == [words]
    assert decoder.hotword_spellings == {tuple(words.lower().split()): hotword}
    foreign = Alphabet((*letters.characters, "É"))
    with pytest.raises(InputError, match=f"in the model's alphabet; '{hotword}' has '[0-9]'"):
        Decoder(foreign, DecodingOptions.of(beam_width=8, hotwords=(hotword,)))


def test_english_hotwords_are_expected_without_accents():
    letters = Alphabet((" ", *ascii_uppercase, "'"))
    with pytest.warns(AsrWarning, match=r"'Bjørk' has 'ø'; left out"):
        decoder = Decoder(
            letters, DecodingOptions.of(beam_width=8, hotwords=("Beyonce\u0301", "Señor’s", "Bjørk", "Zoë\u2011É"))
        )
    assert [each.text for each in decoder._hotwords] == ["BEYONCE", "SENOR'S", "ZOE E"]
    assert decoder.hotword_spellings[("senor's",)] == "Señor’s"


def test_without_num2words_an_error_says_how_to_spell_figures(monkeypatch):
    monkeypatch.setattr(search, "can_spell_numbers", lambda: False)
    letters = Alphabet((" ", *ascii_uppercase, "'"))
    with pytest.warns(AsrWarning, match=r"'3M' has '3'; to spell figures, pip install 'asr\[numbers\]'; left out"):
        Decoder(letters, DecodingOptions.of(beam_width=8, hotwords=("3M", "ACME")))


def test_hotwords_come_as_a_mapping_from_a_file_and_with_default_weights(tmp_path):
    (tmp_path / "names.txt").write_text("cab:3\nb a\n", encoding="utf-8")
    assert LanguageOptions(hotwords={"CAB": 3.0, "B A": 2}).hotwords == ("CAB:3", "B A:2")
    assert LanguageOptions(hotwords={"A 15": 12, "A 39": 12}).hotwords == ("A 15:12.0", "A 39:12")  # 15:12 is a time
    options = DecodingOptions.of(beam_width=8, hotwords=(f"@{tmp_path / 'names.txt'}",))
    assert decode(ambiguous(), ENGLISH, options).text == "A CAB"
    chinese = DecodingOptions.of(beam_width=8, hotwords=("棒棒",))
    assert decode(emission_of("好-棒-棒", CHINESE), CHINESE, chinese).hypotheses[0].hotwords[0].start_frame == 2


@pytest.mark.parametrize(
    ("hotwords", "message"),
    [
        (
            ("ROUTE 66",),
            r"hotwords must be spelled in the model's alphabet; 'ROUTE 66' has 'R', 'O', 'U', 'T', 'E', '6'$",
        ),
        (("CAB", "@"), "a file name must follow the @, as in @names.txt; got '@'$"),
        (("CAB:",), "a hotword must be WORD or WORD:NATS; got 'CAB:'"),
        (("CAB:-2",), r"the weight of a hotword must be finite and above 0 nats, 1e\+06 at most; got 'CAB:-2'"),
        (("AT 12:30 ",), "a time or a weight; got 'AT 12:30': write AT 12:30.0 for the weight, AT 12:30:6 for the"),
        (("",), "hotwords must be spelled in the model's alphabet; '' has no characters"),
    ],
)
def test_a_hotword_that_cannot_be_is_refused_by_name(hotwords, message):
    with pytest.raises(InputError, match=message):
        decode(GOOD, ENGLISH, DecodingOptions.of(beam_width=2, hotwords=hotwords))


def test_posteriors_divided_by_a_power_of_the_prior(rng):
    prior, emission = rng.dirichlet(np.full(6, 2.0)), np.log(rng.dirichlet(np.full(6, 0.5), size=20) + 1e-9)
    emission -= np.log(np.exp(emission).sum(axis=1, keepdims=True))
    divided = np.exp(emission) / prior**0.4
    divided /= divided.sum(axis=1, keepdims=True)
    plain = DecodingOptions.of(beam_width=16, num_best=3)
    expected = decode(np.log(divided), ENGLISH, plain)
    found = decode(emission, ENGLISH, replace_options(plain, prior=tuple(prior), prior_weight=0.4))
    assert [each.tokens for each in found.hypotheses] == [each.tokens for each in expected.hypotheses]
    assert [each.score for each in found.hypotheses] == pytest.approx([each.score for each in expected.hypotheses])
    assert found.text != decode(emission, ENGLISH, plain).text
    assert found.options["prior_weight"] == 0.4 and "prior" not in found.options
    unweighed, greedy = {"prior": tuple(prior), "prior_weight": 0.0}, {"prior": tuple(prior)}
    assert (
        decode(emission, ENGLISH, replace_options(plain, **unweighed)).hypotheses
        == decode(emission, ENGLISH, plain).hypotheses
    )
    assert decode(emission, ENGLISH, DecodingOptions.of(**greedy)) == decode(emission, ENGLISH)


def test_a_prior_leaves_the_impossible_impossible():
    with np.errstate(divide="ignore"):
        emission = np.log([[0.5, 0, 0.5, 0, 0, 0], [1.0, 0, 0, 0, 0, 0]])
    options = DecodingOptions.of(beam_width=16, num_best=9, prior=(0.9, *[0.02] * 5), prior_weight=0.3)
    assert [each.text for each in decode(emission, ENGLISH, options).hypotheses] == ["A", ""]


def test_a_prior_of_other_labels_is_refused():
    with pytest.raises(ConfigError, match="prior must have a probability for each of the 6 labels; got 2"):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, prior=(0.5, 0.5)))


def test_shares_of_the_hypotheses_with_a_word_are_tempered():
    cold, warm = (
        decode(ambiguous(), ENGLISH, DecodingOptions.of(beam_width=8, confidence_power=0.0, **temperature)).words[1]
        for temperature in ({"confidence_temperature": 0.01}, {})
    )
    assert 0.4 < warm.confidence < 0.6 < 0.99 < cold.confidence <= 1


@pytest.mark.parametrize(("width", "option"), [(1, "greedy_confidence_power"), (8, "confidence_power")])
def test_confidence_has_the_posteriors_of_the_characters_to_a_power(width, option):
    heard = (0.9 * 0.9 * 0.48) ** (1 / 3)
    alone, once, thrice, usual = (
        decode(ambiguous(), ENGLISH, DecodingOptions.of(beam_width=width, **power)).words[1].confidence
        for power in ({option: 0.0}, {option: 1.0}, {option: 3.0}, {})
    )
    assert alone == 1.0 if width == 1 else 0.4 < alone < 0.6
    assert once == usual == pytest.approx(alone * heard)
    assert thrice == pytest.approx(alone * heard**3)


def test_the_whole_utterance_moves_the_confidence_of_each_word():
    coefficients = (-1.5, 0.7, 0.9)
    plain, moved = (
        decode(ambiguous(), ENGLISH, DecodingOptions.of(beam_width=8, confidence_calibration=each))
        for each in ((), coefficients)
    )
    characters = place_tokens(np.asarray(ambiguous()), np.array(plain.hypotheses[0].tokens)).confidences
    seen = evidence(np.array([word.confidence for word in plain.words]), of_utterance(characters))
    assert [word.confidence for word in moved.words] == pytest.approx(calibrated(seen, coefficients))
    assert moved.words != plain.words and moved.text == plain.text


def test_beam_confidences_and_times_of_random_emissions_are_in_range():
    rng = np.random.default_rng(6)
    for _ in range(30):
        emission = np.log(rng.dirichlet(np.full(6, 0.3), size=int(rng.integers(0, 40))).reshape(-1, 6) + 1e-9)
        emission -= np.log(np.exp(emission).sum(axis=1, keepdims=True))
        transcript = decode(emission, ENGLISH, DecodingOptions.of(beam_width=8, num_best=3), frame_seconds=0.04)
        assert all(0 <= word.confidence <= 1 and word.start < word.end for word in transcript.words)
        assert [hypothesis.score for hypothesis in transcript.hypotheses] == sorted(
            (hypothesis.score for hypothesis in transcript.hypotheses), reverse=True
        )


def test_a_hotword_is_no_unknown_word(tmp_path):
    """It needs no weight beyond the price of a word that the lexicon lacks, and may be said where nothing else may."""
    (tmp_path / "words.txt").write_text("A\nBA\n")
    emission = emission_of("-BB--A-AC-", ENGLISH, peak=0.6)
    lexicon = DecodingOptions.of(beam_width=16, lexicon=str(tmp_path / "words.txt"), unknown_word_score=-20.0)
    for options in (lexicon, replace_options(lexicon, only_lexicon=True)):
        assert decode(emission, ENGLISH, options).text != "BAAC"
        best = decode(emission, ENGLISH, replace_options(options, hotwords=("BAAC:1",))).hypotheses[0]
        assert (best.text, best.hotword_score, best.word_score) == ("BAAC", 1.0, 0.0)
        assert best.score == pytest.approx(best.acoustic + 1.0)


def test_hotwords_that_nobody_says_change_nothing_beside_a_language_model(words_lm):
    rng = np.random.default_rng(0)
    options = DecodingOptions.of(beam_width=4, lm=words_lm, num_best=4)
    plain = Decoder(ENGLISH, options)
    absent = ("CABA'C:12", "AA'B:9", "BC B'C:20", "CACB' A:12")  # no frame of these emissions has an apostrophe
    expecting = Decoder(ENGLISH, replace_options(options, hotwords=absent))
    for _ in range(100):
        emission = np.log(rng.dirichlet(np.full(6, 0.4), size=40) + 1e-9)
        emission[:, 5] = -np.inf
        emission -= np.logaddexp.reduce(emission, axis=1, keepdims=True)
        one, other = plain.decode(emission), expecting.decode(emission)
        assert one.hypotheses == other.hypotheses
        assert one.words == other.words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width must be between 1 and 10000, not 0"),
        ({"beam_width": 2.0}, "beam_width must be a whole number, not 2.0"),
        ({"num_best": 3}, r"num_best needs a beam: set beam_width to 2 or more, for example 16, not 1 \(greedy\)"),
        ({"lm": "a.arpa", "hotwords": ("A",)}, "lm and hotwords need a beam"),
        ({"beam_width": 2, "num_best": 0}, "num_best must be at least 1, not 0"),
        ({"beam_width": 2, "hotwords": "AB"}, "hotwords must be a list, not 'AB'"),
        (
            {"beam_width": 2, "confidence_temperature": 0.0},
            "confidence_temperature must be between 1e-06 and 1000000, not 0.0",
        ),
        (
            {"beam_width": 2, "confidence_power": -1.0},
            "confidence_power must be between 0 and 1000000, not -1.0",
        ),
        ({"confidence_calibration": (0.0, 1.0)}, "confidence_calibration must have three numbers, not"),
        ({"confidence_calibration": (0.0, math.inf, 0.0)}, "confidence_calibration must be between .*, not inf"),
        (
            {"greedy_confidence_power": math.inf},
            "greedy_confidence_power must be between 0 and 1000000, not inf",
        ),
        ({"beam_width": 2, "prior_weight": -0.5}, "prior_weight must be between 0 and 1000000, not -0.5"),
        (
            {"beam_width": 2, "prior_weight": 0.5},
            "prior_weight needs a prior, which this model lacks: asr-evaluate --tune",
        ),
        ({"beam_width": 2, "prior": (0.5, 0.0)}, "prior must be above 0 and at most 1, not 0.0"),
        ({"beam_width": 2, "only_lexicon": True}, "only_lexicon needs lexicon, or an lm of words"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        from_json(DecodingOptions, options)


def test_changes_to_the_options_of_a_model():
    own = DecodingOptions.of(beam_width=32, lm="ngram.arpa.gz", lm_weight=0.3)
    assert DecodingOptions().changed({}) == DecodingOptions()
    assert DecodingOptions().changed({"hotwords": {"A": 2}}) == DecodingOptions.of(beam_width=16, hotwords=("A:2",))
    wanting = DecodingOptions.of(beam_width=16, hotwords=("A:2",))
    assert wanting.changed({"hotwords": ()}) == DecodingOptions.of(beam_width=16)
    assert wanting.changed({"hotwords": (), "beam_width": 1}) == DecodingOptions()
    assert DecodingOptions().changed({"beam_width": 4, "num_best": 2}).search.beam_width == 4
    assert own.changed({"lm_weight": 1.0}) == DecodingOptions.of(beam_width=32, lm="ngram.arpa.gz", lm_weight=1.0)
    assert own.changed({"beam_width": 1}) == from_json(DecodingOptions, {"lm_weight": 0.3})
    with pytest.raises(ConfigError, match="hotwords needs a beam"):
        own.changed({"beam_width": 1, "hotwords": ("A",)})
    for changes, message in (
        ({"lm_weight": 1.0}, "lm_weight needs lm or fuse_lm; give one, or leave it out"),
        ({"beam_width": 8, "rescore_count": 9}, "rescore_count needs rescore_lm; give one"),
        ({"rescore_lm": "rnn", "source_weight": 0.0}, "source_weight needs source_lm; give one"),
        ({"lexicon": []}, "lexicon must have at least one word, or be None; it is empty"),
        ({"hotwords": {"A": "2"}}, "the weight of hotword 'A' must be a number of nats, not '2'"),
    ):
        with pytest.raises(ConfigError, match=message):
            DecodingOptions().changed(changes)
    with pytest.raises(ConfigError, match="lm_weight needs lm or fuse_lm"):
        own.changed({"lm": None, "lm_weight": 1.0})
    with pytest.raises(ConfigError, match="unknown option 'beams'"):
        own.changed({"beams": 1})


def test_what_the_options_name_is_read_once(words_lm):
    options = DecodingOptions.of(beam_width=8, lm=words_lm)
    decoder = Decoder(ENGLISH, options)
    Path(words_lm).unlink()
    assert decoder.decode(ambiguous()).text == decode(ambiguous(), ENGLISH, decoder.options).text == "A CAB"


def test_what_is_written_again_under_the_same_name_is_read_again(words_lm, tmp_path):
    """Even in the same second with the same size; be it a language model, a lexicon or a list of hotwords."""
    text = Path(words_lm).read_text()
    lists = {"lexicon": ("CAB\nA\n", "BAC\nA\n"), "hotwords": ("A CAB:9\n", "A BAC:9\n")}
    for name in lists:
        (tmp_path / name).write_text(lists[name][0])
    options = [
        DecodingOptions.of(beam_width=8, lm=words_lm),
        DecodingOptions.of(beam_width=8, lexicon=str(tmp_path / "lexicon"), only_lexicon=True),
        DecodingOptions.of(beam_width=8, hotwords=(f"@{tmp_path / 'hotwords'}",)),
    ]
    before = [decode(ambiguous(), ENGLISH, each) for each in options]
    status = Path(words_lm).stat()
    Path(words_lm).write_text(text.replace("CAB", "BAB"))
    os.utime(words_lm, ns=(status.st_atime_ns, status.st_mtime_ns))
    for name in lists:
        (tmp_path / name).write_text(lists[name][1])
    after = [decode(ambiguous(), ENGLISH, each) for each in options]
    for old, new, each in zip(before, after, options, strict=True):
        expected = Decoder(ENGLISH, each).decode(ambiguous())
        assert new == expected
        assert new.hypotheses != old.hypotheses


def test_a_file_of_hotwords_names_no_other_and_ends(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(f"CAB\n@{path}\n")
    with pytest.raises(
        DataError, match=r"names.txt:2: a file of hotwords must not name another, as '@.*names.txt' does"
    ):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, hotwords=(f"@{path}",)))
    for option in ({"hotwords": ("@/dev/zero",)}, {"lexicon": "/dev/zero"}):
        with pytest.raises(DataError, match="/dev/zero: this file of words cannot be read: it must be a regular file"):
            Decoder(ENGLISH, DecodingOptions.of(beam_width=8, **option))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: this file of words cannot be read: it must be a regular file"):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, lexicon=str(tmp_path / "pipe")))
    with pytest.raises(DataError, match="this file of words cannot be read: embedded null byte"):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, lexicon="a\0b"))
    with pytest.raises(InputError, match=r"must be finite and above 0 nats, 1e\+06 at most; got 'A:1e9'"):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, hotwords=("A:1e9",)))


def test_a_list_of_words_has_a_size_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_WORDS_BYTES", 9)
    (tmp_path / "words").write_text("CAB\n" * 3)
    with pytest.raises(
        DataError, match="this file of words cannot be read: it must have at most 9 bytes, but has more"
    ):
        Decoder(ENGLISH, DecodingOptions.of(beam_width=8, lexicon=str(tmp_path / "words")))


def test_decoding_does_not_load_torch():
    code = "import sys, asr.decoding.decoder, asr.output.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
