"""Texts laid over emissions that say when each character was heard, and over sound."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.errors import ConfigError, DataError, InputError
from asr.recognition.aligner import AlignmentOptions, align_recording, align_text
from asr.recognition.word_characters import spell_words
from asr.text.alphabet import BLANK, Alphabet
from asr.text.normalization import TextOptions, normalize
from asr.text.numbers import cardinal, year
from asr.text.transcript import find_words
from tests.tones import speak

SPEECH = Path(os.environ.get("ASR_LONG_SPEECH", "../shared/corpora/long_speech"))
ENGLISH = Alphabet((" ", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def test_characters_outside_nfc_are_aligned():
    for others in ("", "\u09af\u09bc"):  # Bengali letters of which U+09DF, which NFC takes apart, is composed
        bengali = Alphabet((" ", "ক", "া", "\u09df", *others))
        emission = heard("_কা_\u09df_ ক_\u09df_", bengali)
        aligned = align_text(emission, "কা\u09af\u09bc ক\u09df।", bengali)
        assert not aligned.dropped
        parts = [[(part.text, part.start_frame) for part in word.parts] for word in aligned.words]
        assert parts == [[("ক", 1), ("া", 2), ("\u09df", 4)], [("ক", 7), ("\u09df", 9)]]


def heard(spoken: str, alphabet: Alphabet = ENGLISH, *, sure: float = 0.98) -> np.ndarray:
    """An emission with one frame for each character; _ is Φ."""
    emission = np.full((len(spoken), alphabet.size), math.log((1 - sure) / (alphabet.size - 1)))
    labels = [0 if character == "_" else alphabet.encode(character)[0] for character in spoken]
    emission[np.arange(len(spoken)), labels] = math.log(sure)
    return emission


def times(segments) -> list[tuple[str, int, int]]:
    return [(segment.text, segment.start_frame, segment.end_frame) for segment in segments]


def test_words_come_back_as_written_with_the_frames_of_their_characters():
    aligned = align_text(heard("__D_ON'T_ _YO_U__"), "“Don’t you?”", ENGLISH)
    assert times(aligned.words) == [("“Don’t", 2, 8), ("you?”", 11, 15)]
    assert times(aligned.characters[:5]) == [("D", 2, 3), ("O", 4, 5), ("N", 5, 6), ("'", 6, 7), ("T", 7, 8)]
    assert times(aligned.sentences) == [("“Don’t you?”", 2, 15)]
    assert aligned.words[0].confidence == pytest.approx(0.98)
    assert aligned.score == pytest.approx(17 * math.log(0.98))
    assert (aligned.untimed, aligned.dropped) == ((), Counter())
    assert (aligned.segments("word"), aligned.segments("sentence")) == (aligned.words, aligned.sentences)
    assert (aligned.words[1].start, aligned.words[1].end) == pytest.approx((11 - 0.02, 15 + 0.04))


def test_the_score_of_a_word_is_the_mean_of_its_characters():
    emission = heard("AB_ _C")
    emission[0, ENGLISH.encode("A")[0]] = math.log(0.5)
    emission[0, 0] = math.log(0.4)
    first, second = align_text(emission, "ab c", ENGLISH, AlignmentOptions(gaps="nowhere")).words
    assert first.confidence == pytest.approx(math.sqrt(0.5 * 0.98))
    assert second.confidence == pytest.approx(0.98)
    assert align_text(emission, "ab c", ENGLISH).confidence == pytest.approx((0.5 * 0.98 * 0.98) ** (1 / 3))


def test_numbers_and_signs_are_aligned_as_they_are_said_and_come_back_as_written():
    pytest.importorskip("num2words")
    spoken = heard("IN_ _MAY_ _NINETE_EN_ _SIXTY_ _ONE_ _HE_ _AND_ _I_ _LEFT")
    aligned = align_text(spoken, "In May, 1961 — he & I left…", ENGLISH)
    assert [word.text for word in aligned.words] == ["In", "May,", "1961", "he", "&", "I", "left…"]
    assert times(aligned.words)[2] == ("1961", 11, 11 + len("NINETE_EN_ _SIXTY_ _ONE"))
    assert "".join(part.text for part in aligned.words[2].parts) == "NINETEENSIXTYONE"
    assert min(word.confidence for word in aligned.words) == pytest.approx(0.98)
    assert (aligned.untimed, aligned.dropped, aligned.notes) == (("—",), Counter(), ())


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_number_that_cannot_be_read_has_the_time_of_what_is_heard_in_its_place(monkeypatch, language):
    if language == "en":  # without the package
        monkeypatch.setitem(sys.modules, "num2words", None)
        cardinal.cache_clear(), year.cache_clear()
    aligned = align_text(
        heard("IM_ _MAI_ _EINUNDSECHZIG___ _GING_ _ER___"), "1. Im Mai 61 — ging er 1972.", ENGLISH,
        text_options=TextOptions(language=language),
    )  # fmt: skip
    assert times(aligned.words) == [("Im", 0, 2), ("Mai", 5, 8), ("61", 11, 24), ("ging", 29, 33), ("er", 36, 38)]
    assert (aligned.words[2].score, aligned.words[2].confidence, aligned.words[2].parts) == (-math.inf, 0.0, ())
    assert aligned.confidence == pytest.approx(0.98)
    assert aligned.untimed == ("1.", "—", "1972.")  # nothing is heard where the text begins and ends
    assert aligned.dropped == Counter({"1": 3, "6": 1, "9": 1, "7": 1, "2": 1})
    assert times(aligned.sentences) == [("1. Im Mai 61 — ging er 1972.", 0, 38)]
    note = "numbers are not read, and get the time that is left between words: pip install 'asr[numbers]'"
    assert aligned.notes == ((note,) if language == "en" else ())


def test_neighbours_that_cannot_be_read_share_the_time_between_words():
    options = TextOptions(language="de")
    aligned = align_text(heard("A____B"), "a 1 2 b", ENGLISH, text_options=options)
    assert times(aligned.words) == [("a", 0, 1), ("1", 1, 3), ("2", 3, 5), ("b", 5, 6)]
    assert [word.position for word in aligned.words] == [0, 2, 4, 6]
    aligned = align_text(heard("A_B"), "a 1 2 b", ENGLISH, text_options=options)
    assert aligned.untimed == ("1", "2")  # there is no room


PROSE = """
it is a truth universally acknowledged that a single man in possession of a good fortune must be in want of a wife
however little known the feelings or views of such a man may be on his first entering a neighbourhood this truth is
so well fixed in the minds of the surrounding families that he is considered as the rightful property
"""
WORDS = PROSE.split()


def spelled(words: list[str]) -> str:
    return "__".join(f"{'_'.join(word.upper())}_ " for word in words)


@pytest.mark.parametrize(("first", "end"), [(20, 32), (0, 9), (50, len(WORDS))])
def test_a_passage_that_the_text_lacks_is_named_and_words_beside_it_keep_their_times(first, end):
    emission = heard(spelled(WORDS))
    whole = align_text(emission, " ".join(WORDS), ENGLISH)
    assert (whole.missing, whole.unspoken, whole.remarks) == ((), (), ())
    aligned = align_text(emission, " ".join(WORDS[:first] + WORDS[end:]), ENGLISH)
    assert times(aligned.words) == times(whole.words[:first] + whole.words[end:])
    (missing,) = aligned.missing
    assert missing.heard == " ".join(WORDS[first:end]).upper()
    assert (missing.start, missing.end) == (whole.words[first].start_frame, whole.words[end - 1].end_frame)
    assert aligned.remarks[0].startswith(f"the text lacks what is said from {missing.start:.1f} to {missing.end:.1f} s")


@pytest.mark.parametrize(("first", "end"), [(20, 32), (0, 9), (50, len(WORDS))])
def test_a_passage_that_nobody_says_is_named_and_gets_no_time(first, end):
    emission = heard(spelled(WORDS[:first] + WORDS[end:]))
    aligned = align_text(emission, " ".join(WORDS), ENGLISH)
    plain = align_text(emission, " ".join(WORDS[:first] + WORDS[end:]), ENGLISH)
    assert times(aligned.words) == times(plain.words)
    assert [(item.first, item.end, item.text) for item in aligned.unspoken] == [
        (first, end, " ".join(WORDS[first:end]))
    ]
    assert aligned.sentences[0].text == " ".join(WORDS[:first] + WORDS[end:])
    assert (aligned.missing, aligned.untimed) == ((), ())
    assert aligned.remarks == (f"not spoken: words {first + 1} to {end}, '{' '.join(WORDS[first : first + 8])} …'",)


def test_a_border_of_words_lies_between_their_labels_and_a_pause_is_a_little_shorter_than_between_labels():
    aligned = align_text(heard("_____AB_ C_______D____"), "ab c d", ENGLISH, frame_seconds=0.04)
    border = 0.26 + 0.35 * (0.38 - 0.26)  # between the middles of B and C
    expected = [(0.2 - 0.02, border), (border, 0.4 + 0.04), (0.68 - 0.02, 0.72 + 0.04)]
    assert [word.edges for word in aligned.words] == [pytest.approx(pair) for pair in expected]
    assert [(word.start, word.end) for word in aligned.words] == [word.edges for word in aligned.words]
    assert aligned.sentences[0].edges == (aligned.words[0].start, aligned.words[-1].end)
    assert [part.edges for part in aligned.characters] == [None] * 4


def test_the_text_of_another_recording_is_doubted_as_a_whole():
    aligned = align_text(heard(spelled(WORDS[:30])), " ".join(WORDS[32:50]), ENGLISH)
    assert aligned.doubt == "mean score 0.00: is this the text of this recording?"
    assert aligned.remarks[0] == aligned.doubt and not aligned.unspoken


MARKED = "NARRATOR: Go [the door opens] ho[noise]me. (laughs) <unk> ♪ la la ♪ Now."


def test_marks_have_no_time_and_move_no_word():
    spoken = heard("_GO_ _HOME_ _NOW_")
    aligned = align_text(spoken, MARKED, ENGLISH)
    assert times(aligned.words) == [
        (each.text if each.text != "home." else "ho[noise]me.", each.start_frame, each.end_frame)
        for each in align_text(spoken, "Go home. Now.", ENGLISH).words
    ]
    assert aligned.untimed == ("NARRATOR:", "[the", "door", "opens]", "(laughs)", "<unk>", "♪", "la", "la", "♪")
    assert aligned.dropped == Counter()
    with pytest.raises(InputError, match="a text must have no marks, but has 'NARRATOR:' in"):
        align_text(spoken, MARKED, ENGLISH, text_options=TextOptions(marks="refuse"))
    kept = align_text(heard("BO_ _GO"), "BO: Go", ENGLISH, text_options=TextOptions(marks="keep"))
    assert times(kept.words) == [("BO:", 0, 2), ("Go", 5, 7)]


def test_unknown_characters_can_be_refused():
    with pytest.raises(InputError, match="the model must have every character of the text; it lacks 'Ä', 'Ö'"):
        align_text(heard("AB"), "ab äö", ENGLISH, AlignmentOptions(unknown="refuse"))


def test_words_that_normalise_to_several_are_one():
    aligned = align_text(heard("SELF_ _SAME_ _A"), "self-same a", ENGLISH)
    assert times(aligned.words) == [("self-same", 0, 11), ("a", 14, 15)]
    assert "".join(character.text for character in aligned.characters) == "SELFSAMEA"


def test_chinese_needs_no_spaces():
    alphabet = Alphabet(tuple("你好我们a"))
    options = TextOptions(language="zh", case="lower")
    aligned = align_text(heard("_你_好_我__们a", alphabet), "你好。 我们 A！", alphabet, text_options=options)
    assert times(aligned.words) == [("你", 1, 2), ("好。", 3, 4), ("我", 5, 6), ("们", 8, 9), ("A！", 9, 10)]
    assert times(aligned.sentences) == [("你好。", 1, 4), ("我们 A！", 5, 10)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A b. C d! E", ["A b.", "C d!", "E"]),
        ('A b." “C d?” E', ['A b."', "“C d?”", "E"]),
        ("Mr. B came. (C d...) He", ["Mr. B came.", "(C d...)", "He"]),
        ("J. K. B e. g h", ["J. K. B e. g h"]),  # initials; and what goes on in lower case
        ("A b\nc d\n\nE f", ["A b c d", "E f"]),
        ("A b. –. C d. –.", ["A b. –.", "C d. –."]),
        ("–. A b. C", ["–. A b.", "C"]),
        ("A B C", ["A B C"]),
    ],
)
def test_sentences_end_where_punctuation_or_an_empty_line_says_so(text, sentences):
    spoken = normalize(text, TextOptions())
    aligned = align_text(heard("_".join(" ".join(spoken.split()))), text, ENGLISH)
    assert [sentence.text for sentence in aligned.sentences] == sentences
    assert [word for sentence in aligned.sentences for word in sentence.parts] == list(aligned.words)


def test_sentences_can_be_lines():
    aligned = align_text(heard("A_ _B_ _C"), "A.\r\nB c", ENGLISH, AlignmentOptions(sentence_end="line"))
    assert [sentence.text for sentence in aligned.sentences] == ["A.", "B c"]
    aligned = align_text(heard("A_ _B_ _C"), "A. B\nc", ENGLISH, AlignmentOptions(sentence_end="line"))
    assert [sentence.text for sentence in aligned.sentences] == ["A. B", "c"]


def test_speech_that_the_text_lacks_is_passed_over_where_gaps_are():
    spoken = "WELL_ _GO_ _HOME_ _NOW_ _MUST_ _WE_ _STAY_ _YES_"
    text = "Go home. We stay."
    found = {
        gaps: times(align_text(heard(spoken), text, ENGLISH, AlignmentOptions(gaps=gaps)).words)
        for gaps in ("nowhere", "edges", "sentences")
    }
    assert found["sentences"] == [("Go", 7, 9), ("home.", 12, 16), ("We", 32, 34), ("stay.", 37, 41)]
    assert found["nowhere"] != found["edges"] != found["sentences"]
    alone = align_text(heard(spoken), "now must we", ENGLISH, AlignmentOptions(gaps="edges"))
    assert times(alone.words) == [("now", 19, 22), ("must", 25, 29), ("we", 32, 34)]


def test_frames_that_begin_after_the_end_of_the_sound_are_left_out():
    aligned = align_text(heard("_A_B"), "a b", ENGLISH, frame_seconds=0.04, duration_seconds=0.1201)
    assert aligned.timeline.num_frames == 3
    assert aligned.words[-1].end == 0.1201  # that of the sound
    assert all(0 <= word.start < word.end <= 0.1201 for word in aligned.words)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([*" \n.,'’-—\"1", "n", "'n'", "İ", "ß", "e\u0301", "我", "A"])).map("".join),
    st.builds(
        TextOptions,
        language=st.sampled_from(["en", "zh", "de"]),
        case=st.sampled_from(["upper", "lower", "keep"]),
        punctuation=st.sampled_from(["drop", "keep"]),
        marks=st.just("keep"),
    ),
)  # fmt: skip
def test_property_words_are_spelled_as_the_normalised_text(text, options):
    words = [text[start:end] for start, end in find_words(text)]
    characters, owners = spell_words(words, options)
    assert "".join(characters.split()) == "".join("".join(normalize(word, options) for word in words).split())
    assert len(characters) == len(owners)
    spoken = [owner for owner in owners if owner >= 0]
    assert spoken == sorted(spoken)
    for index, word in enumerate(words):
        own = "".join(character for character, owner in zip(characters, owners, strict=True) if owner == index)
        assert own == "".join(normalize(word, options).split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("— — —", r"the text must have a character of the model; got '— — —', and the model has \" 'ABC"),
        ("", "the text must have a character of the model; got ''"),
        ("hello", r"the text needs 6 frames \(5 characters, 1 repeats\) but the recording has 4, in 0.16 s: is it the"),
    ],
)
def test_texts_that_cannot_be_aligned(text, message):
    with pytest.raises(InputError, match=message):
        align_text(heard("ABCD"), text, ENGLISH, frame_seconds=0.04)


def test_a_large_alphabet_is_not_printed_whole():
    characters = tuple(map(chr, range(0x4E00, 0x4E00 + 3000)))
    with pytest.raises(InputError, match=f"the model has '{''.join(characters[:40])}' ...$"):
        align_text(np.zeros((4, 3001)), "hello", Alphabet(characters))


def test_an_emission_of_another_alphabet():
    with pytest.raises(InputError, match="log_probs must have one column for each of the 4 labels of the alphabet"):
        align_text(heard("ABCD"), "a", Alphabet(("A", "B", "C")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaps": "everywhere"}, "gaps must be one of edges, sentences, nowhere, not 'everywhere'"),
        ({"gap_score": 0.1}, "gap_score must be between -1000000 and 0, not 0.1"),
        ({"gap_score": -math.inf}, "gap_score must be between -1000000 and 0, not -inf"),
        ({"sentence_end": "word"}, "sentence_end must be one of punctuation, line, not 'word'"),
        ({"unknown": "guess"}, "unknown must be one of drop, refuse, not 'guess'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        AlignmentOptions(**options)


def test_labels_are_aligned_with_the_blank_of_all_models():
    emission = heard("_A_B")
    assert asr.align(emission, ENGLISH.encode("AB"), blank=BLANK).spans.tolist() == [[1, 2], [3, 4]]
    assert asr.align(np.roll(emission, -1, axis=1), [ENGLISH.encode("A")[0] - 1], blank=ENGLISH.size - 1).score < 0


# With sound: a model that knows the tones A, B and C.


@pytest.fixture(scope="module")
def recognizer(tone_run: tuple[Path, list[str]]) -> asr.Recognizer:
    return asr.load(tone_run[0] / "model", device="cpu", precision="float32")


def test_words_of_a_long_recording_are_where_they_are_said(recognizer, seed):
    rng = np.random.default_rng(seed)
    words, pieces, starts = [], [], []
    position = 0
    for _ in range(60):
        words.append("".join(rng.choice(list("ABC"), rng.integers(1, 4))))
        pieces.append(speak(words[-1], rng))
        starts.append((position + 800) / 8000)  # after a tenth of a second of quiet
        position += len(pieces[-1])
        pieces.append(np.zeros(800))
        position += 800
    waveform = np.concatenate(pieces).astype(np.float32)
    assert len(waveform) / 8000 > 30  # so that it is heard in pieces
    heard_seconds: list[float] = []
    aligned = align_recording(recognizer, (waveform, 8000), " ".join(words).lower(), progress=heard_seconds.append)
    assert [word.text for word in aligned.words] == [word.lower() for word in words]
    found = np.array([word.start for word in aligned.words])
    assert (np.abs(found - starts) < 0.15).mean() > 0.9
    assert np.abs(found - starts).max() < 1.0
    assert aligned.timeline.duration_seconds == pytest.approx(len(waveform) / 8000)
    assert sum(heard_seconds) >= len(waveform) / 8000


def test_log_probs_of_pieces_have_the_frames_of_the_whole(recognizer, rng):
    waveform = speak("ABC CAB " * 24, rng).astype(np.float32)
    whole = recognizer.log_probs((waveform, 8000))
    joined, seconds = recognizer.long_log_probs((waveform, 8000))
    assert seconds == len(waveform) / 8000 > 25
    assert joined.shape == whole.shape
    assert (joined.argmax(axis=1) == whole.argmax(axis=1)).mean() > 0.95


def test_sound_that_cannot_be_read(recognizer, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF this is no sound")
    with pytest.raises(DataError, match=r"a.wav"):
        align_recording(recognizer, tmp_path / "a.wav", "A")


def test_one_channel_of_a_file(recognizer, tmp_path, rng):
    left = speak("AB C", rng)
    soundfile.write(tmp_path / "two.wav", np.stack([left, np.zeros(len(left))], axis=1), 8000)
    aligned = align_recording(recognizer, tmp_path / "two.wav", "AB C", channel=0)
    assert aligned.words[0].confidence > 0.5
    with pytest.raises(InputError, match="every path has a log-probability of -inf"):
        align_recording(recognizer, tmp_path / "two.wav", "AB C", channel=1)  # digital silence


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no long speech at {SPEECH} (set ASR_LONG_SPEECH)")
def test_every_word_of_long_speech_has_its_time():
    recognizer = asr.load(device="cpu", precision="float32")
    with open(SPEECH / "manifest.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 10
    for row in rows:
        aligned = align_recording(recognizer, SPEECH / row["path"], row["transcript"])
        assert [word.text for word in aligned.words] == row["transcript"].split()
        assert (aligned.untimed, aligned.text) == ((), row["transcript"])
        times_ = [time for word in aligned.words for time in (word.start, word.end)]
        assert times_ == sorted(times_) and times_[0] >= 0 and times_[-1] <= float(row["seconds"]) + 0.1
        assert all(word.start < word.end for word in aligned.words)


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no long speech at {SPEECH} (set ASR_LONG_SPEECH)")
def test_a_pause_between_sentences_is_found_though_the_model_knows_few_words():
    recognizer = asr.load(device="cpu", precision="float32")
    text = (
        "And so, my fellow Americans, ask not what your country can do for you. Ask what you can do for your country."
    )
    aligned = align_recording(recognizer, SPEECH / "jfk_inaugural_excerpt.flac", text)
    first, second = aligned.sentences  # he pauses between them from 7.6 to 8.0 s
    assert first.start < 0.6 and 7.0 < first.end < 8.0 < second.start < 8.5 and second.end > 10.2
