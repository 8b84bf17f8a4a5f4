from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from asr.ctc.collapse import collapse
from asr.decoding import DecodingOptions, decode
from asr.errors import ConfigError, InputError
from asr.text import Alphabet

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


def test_a_sound_longer_than_its_frames_keeps_its_length():
    transcript = decode(emission_of("A", ENGLISH), ENGLISH, frame_seconds=0.04, duration_seconds=2.5)
    assert (transcript.duration_seconds, transcript.words[0].end) == (2.5, 0.04)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_as_good_as_arrays(dtype):
    tensor = torch.from_numpy(emission_of("AB- -C-C", ENGLISH)).to(dtype).requires_grad_()
    assert decode(tensor, ENGLISH).text == "AB CC"


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
        (GOOD[:, :5], "one column for each of the 6 labels of the alphabet, Φ included; got 5"),
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
    with pytest.raises(InputError, match=r"must reach the last of the 4 frames of 0\.04 s, but one at most; 0\.06 s"):
        decode(GOOD, ENGLISH, frame_seconds=0.04, duration_seconds=0.06)
    with pytest.raises(InputError, match="frame_seconds must be positive"):
        decode(GOOD, ENGLISH, frame_seconds=0.0)


@pytest.mark.parametrize("width", [0, 2, -1, 1.0, True, None])
def test_only_greedy_decoding(width):
    assert DecodingOptions().beam_width == 1
    with pytest.raises(ConfigError, match=r"beam_width must be 1 \(greedy\); got"):
        DecodingOptions(beam_width=width)


def test_decoding_does_not_load_torch():
    code = "import sys, asr.decoding, asr.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
