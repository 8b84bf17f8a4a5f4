"""Texts of open utterances: what is stable stays, and the final text begins with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.decoder import Decoder
from asr.decoding.open_text import finish_text
from asr.decoding.options import DecodingOptions
from asr.text.alphabet import Alphabet
from asr.text.subwords import Subwords
from tests.decoding.test_decoder import CHINESE, ENGLISH, emission_of

GREEDY, BEAM = DecodingOptions(), DecodingOptions.of(beam_width=8)
PIECES = Subwords((" A", "B", " C", "AB", " "))


def random_emission(seed: int, num_frames: int, num_labels: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((num_frames, num_labels))
    logits[:, 1] += 1.5  # spaces
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_words_by_hand(options):
    opened = Decoder(ENGLISH, options).start()
    assert (opened.stable, opened.unstable(emission_of("", ENGLISH))) == ("", "")
    opened.advance(emission_of("-AB-", ENGLISH, peak=0.999))
    assert opened.stable == ""
    assert opened.unstable(emission_of("C", ENGLISH, peak=0.999)) == "ABC"
    assert opened.unstable(emission_of(" C", ENGLISH, peak=0.999)) == "AB C"
    opened.advance(emission_of("  -C", ENGLISH, peak=0.999))
    if options is GREEDY:
        assert (opened.stable, opened.stable_words, opened.stable_path().tolist()) == (
            "AB",
            ("AB",),
            [0, 2, 3, 0, 1, 1],
        )
        assert opened.unstable(emission_of("CA", ENGLISH, peak=0.999)) == "CA"
    opened.advance(emission_of("-A" * 20 + "- ", ENGLISH, peak=0.999))
    assert (opened.stable + " " + opened.unstable(emission_of("A-", ENGLISH))).split()[:1] == ["AB"]


def test_stable_frames_end_with_the_word_though_its_space_comes_late_in_the_pause():
    opened = Decoder(ENGLISH, GREEDY).start()
    assert opened.num_stable_frames() == 0
    opened.advance(emission_of("-AB------ ---", ENGLISH, peak=0.999))
    assert (opened.stable, opened.num_stable_frames(), len(opened.stable_path())) == ("AB", 3, 10)


@pytest.mark.parametrize("labels", [ENGLISH, CHINESE, PIECES], ids=["english", "chinese", "pieces"])
@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_stable_words_stay_and_the_text_begins_with_them(labels, options, seed, sizes):
    decoder = Decoder(labels, options)
    first, second = (random_emission(seed + number, sum(sizes), labels.size) for number in range(2))
    opened, stable, at = decoder.start(), (), 0
    for size in sizes:
        opened.advance(first[at : at + size])
        at += size
        assert opened.stable_words[: len(stable)] == stable
        stable = opened.stable_words
        tail = first[at : at + 3]
        before = opened.unstable(tail)
        assert opened.unstable(tail) == before
        assert len(opened.stable_path()) <= at
    for emission in (first, second):
        transcript = finish_text(opened, emission, frame_seconds=0.04, duration_seconds=None)
        assert tuple(word.text for word in transcript.words)[: len(stable)] == stable
        assert transcript.timeline.num_frames == len(emission)
        assert all(0 <= word.confidence <= 1 for word in transcript.words)


@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_an_agreeing_utterance_has_the_text_of_the_whole(options):
    emission = emission_of("-AB-  -C-A- -B", ENGLISH, peak=0.99)
    decoder = Decoder(ENGLISH, options)
    opened = decoder.start()
    opened.advance(emission)
    final = finish_text(opened, emission, frame_seconds=0.04, duration_seconds=0.55)
    assert final == decoder.decode(emission, frame_seconds=0.04, duration_seconds=0.55)


@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_what_contradicts_stable_words_is_searched_again_in_their_place(options):
    decoder = Decoder(ENGLISH, options)
    opened = decoder.start()
    opened.advance(emission_of("-AB-  " + "-C-A" * 8 + "-", ENGLISH, peak=0.99999))
    assert opened.stable == "AB"
    second = emission_of("-AC-  " + "-C-A" * 8 + "-", ENGLISH, peak=0.99999)
    final = finish_text(opened, second, frame_seconds=1.0, duration_seconds=None)
    assert [word.text for word in final.words] == ["AB", "CA" * 8]
    assert final.words[0].confidence < 0.1 < 0.9 < final.words[1].confidence
    assert (final.words[1].start_frame, final.words[1].end_frame) == (7, 38)


@pytest.mark.parametrize("options", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_a_rest_that_would_go_on_with_a_stable_word_is_decoded_by_itself(options):
    def certain(path: list[int]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.eye(PIECES.size, dtype=np.float32)[path])

    decoder = Decoder(PIECES, options)
    opened = decoder.start()
    opened.advance(certain([1, 0, 3, 0]))  # " A", " C"
    assert opened.stable == "A"
    final = finish_text(opened, certain([2, 2, 2, 0]), frame_seconds=0.04, duration_seconds=0.15)  # "B"
    assert [(word.text, word.start_frame, word.end_frame) for word in final.words] == [("A", 0, 1), ("B", 1, 3)]
    assert final.duration_seconds == pytest.approx(0.15)


def test_a_search_for_open_texts_is_narrow_and_greedy_decoding_has_none():
    decoder = Decoder(ENGLISH, DecodingOptions.of(beam_width=500))
    assert decoder.live_search is decoder.live_search
    assert decoder.live_search.options.beam_width < 500
    assert Decoder(ENGLISH, DecodingOptions.of(beam_width=2)).live_search.options.beam_width == 2
    assert Decoder(ENGLISH).live_search is None


def test_one_word_is_stable_once_a_space_follows_it():
    opened = Decoder(Alphabet(("A", " ")), GREEDY).start()
    for path, stable in [("A", ""), ("-A", ""), (" ", "AA"), ("A", "AA"), (" ", "AA A")]:
        opened.advance(emission_of(path, Alphabet(("A", " "))))
        assert opened.stable == stable
