"""Anybody's subwords through `build_decoder`: texts, words, times, confidences."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import asr
from asr.decoding.label_decoder import build_decoder
from asr.errors import AsrWarning, ConfigError, InputError
from asr.text.segments import find_segments
from tests.ctc.enumeration import labelling_probabilities

BPE = ["<unk>", "▁the", "▁th", "e", "▁", "t", "h", "s", "▁thes", "▁he", "<blk>"]


def emission_of(labels: list[str], path: list[str], *, sure: float = 0.9) -> np.ndarray:
    """(T, V) log-probabilities with one likely label in each frame."""
    probabilities = np.full((len(path), len(labels)), (1 - sure) / (len(labels) - 1))
    for frame, label in enumerate(path):
        probabilities[frame, labels.index(label)] = sure
    return np.log(probabilities)


def write_arpa(path: Path, words: dict[str, float]) -> Path:
    """A model of single words, with log10 probabilities."""
    grams = "\n".join(
        f"{score}\t{word}" for word, score in {"<unk>": -3.0, "<s>": -99.0, "</s>": -1.0, **words}.items()
    )
    path.write_text(f"\\data\\\nngram 1={len(words) + 3}\n\\1-grams:\n{grams}\n\\end\\\n", encoding="utf-8")
    return path


def texts_of(emission: np.ndarray, labels: list[str], blank: int) -> dict[tuple[str, ...], float]:
    """The probability of the words of each text, summed over paths and segmentations."""
    table: dict[tuple[str, ...], float] = {}
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=blank).items():
        words = tuple("".join(labels[token] for token in tokens).replace("▁", " ").split())
        table[words] = table.get(words, 0.0) + probability
    return table


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("with_lm", [False, True])
def test_the_n_best_are_texts_with_the_sum_over_their_segmentations(tmp_path, seed, with_lm):
    labels = ["▁the", "▁th", "e", "▁", "", "t"]
    emission = np.log(np.random.default_rng(seed).dirichlet(np.ones(6), size=5))
    model = write_arpa(tmp_path / "words.arpa", {"the": -0.5, "th": -1.5}) if with_lm else None
    options = {"lm_weight": 0.8, "word_bonus": 0.4, "unknown_word_score": -2.0} if with_lm else {}
    decoder = build_decoder(labels, model, beam_width=5000, num_best=5000, **options)
    hypotheses = decoder.decode(emission).hypotheses
    expected = {}
    log_probs = {"the": -0.5, "th": -1.5}
    for words, probability in texts_of(emission, labels, 4).items():
        score = math.log(probability)
        if with_lm:
            lm = sum(log_probs.get(word, -3.0) for word in words) - 1.0
            score += 0.8 * lm * math.log(10) + 0.4 * len(words) - 2.0 * sum(word not in log_probs for word in words)
        expected[" ".join(words)] = score
    assert len({h.text for h in hypotheses}) == len(hypotheses)
    assert {h.text: h.score for h in hypotheses} == pytest.approx(expected, abs=1e-5 if with_lm else 1e-9)
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)


@pytest.mark.parametrize(
    ("labels", "path", "text"),
    [
        (["", "▁bugs", "▁bun", "ny"], ["", "▁bugs", "▁bun", "ny", "ny", ""], "bugs bunny"),
        (["", "bugs", "bun", "##ny"], ["", "bugs", "bun", "##ny", "##ny", ""], "bugs bunny"),
        (["", "Ġbugs", "Ġbun", "ny"], ["", "Ġbugs", "Ġbun", "ny", "ny", ""], "bugs bunny"),
        (["", "bugs", "|", "bun", "ny"], ["", "bugs", "|", "bun", "ny", ""], "bugs bunny"),
        (["", "▁bugs▁bun", "ny"], ["", "▁bugs▁bun", "ny"], "bugs bunny"),
        (["", "▁我", "们", "▁a"], ["▁我", "们", "▁a", ""], "我们 a"),
        (["", "▁caf", "<0xC3>", "<0xA9>", "s"], ["▁caf", "<0xC3>", "<0xA9>", "s"], "cafés"),
        (["", "Ġcaf", "Ã", "©s"], ["Ġcaf", "Ã", "©s"], "cafés"),
        (["", "▁caf", "<0xC3>", "s"], ["▁caf", "<0xC3>", "s"], "caf\ufffds"),
    ],
)
@pytest.mark.parametrize("width", [1, 16])
def test_each_style_gives_its_words(labels, path, text, width):
    transcript = build_decoder(labels, beam_width=width).decode(emission_of(labels, path))
    assert transcript.text == text


def test_words_last_from_their_first_label_to_their_last_one():
    path = ["<blk>", "▁th", "e", "e", "<blk>", "s", "▁", "▁he", "<blk>"]
    for width in (1, 16):
        decoder = build_decoder(BPE, beam_width=width, blank="<blk>")
        transcript = decoder.decode(emission_of(BPE, path, sure=0.98), frame_seconds=0.08)
        assert [(word.text, word.start_frame, word.end_frame) for word in transcript.words] == [
            ("thes", 1, 6),
            ("he", 7, 8),
        ]
        assert all(word.confidence > 0.8 for word in transcript.words)
        (hypothesis,) = transcript.hypotheses
        spoken = [label for label in BPE if label not in ("<unk>", "<blk>")]
        assert [spoken[token - 1] for token in hypothesis.tokens] == ["▁th", "e", "s", "▁", "▁he"]
        assert hypothesis.spans == ((1, 2), (2, 4), (5, 6), (6, 7), (7, 8))


def test_times_are_those_of_pyctcdecodes_own_case():
    """Source: `text_frames` in pyctcdecode's tests of its decoder: bugs 1 to 2, bunny 2 to 5."""
    labels = ["▁bugs", "▁bun", "ny", ""]
    logits = np.zeros((6, 4))
    logits[np.arange(6), [labels.index(label) for label in ("", "▁bugs", "▁bun", "ny", "ny", "")]] = 1.0
    words = build_decoder(labels, logits=True, beam_width=100).decode(logits).words
    assert [(word.text, word.start_frame, word.end_frame) for word in words] == [("bugs", 1, 2), ("bunny", 2, 5)]


def test_two_words_of_one_label_follow_one_another():
    labels = ["", "▁of▁the", "▁a"]
    transcript = build_decoder(labels).decode(emission_of(labels, ["", "▁of▁the", "▁of▁the", "▁a", ""]))
    assert transcript.text == "of the a"
    spans = [(word.start_frame, word.end_frame) for word in transcript.words]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (["▁我们", "", "▁a", ""], [("我", 0, 1), ("们", 1, 2), ("a", 2, 3)]),
        (["▁我们", "▁a"], [("我们", 0, 1), ("a", 1, 2)]),  # three words in two frames
        (["▁of▁the"], [("ofthe", 0, 1)]),
        (["", "▁我们▁of", ""], [("我", 0, 1), ("们", 1, 2), ("of", 2, 3)]),
    ],
)
def test_words_of_one_label_have_frames_of_their_own(width, path, words):
    labels = ["", "▁of▁the", "▁我们", "▁a", "▁我们▁of"]
    transcript = build_decoder(labels, beam_width=width).decode(emission_of(labels, path))
    assert [(word.text, word.start_frame, word.end_frame) for word in transcript.words] == words
    assert [segment.text for segment in find_segments(transcript.text, transcript.words)] == [transcript.text]


def test_a_confidence_is_that_of_the_words_share_and_labels():
    labels = ["", "▁a", "▁b", "▁", "a"]
    probabilities = np.array([[0.05, 0.55, 0.3, 0.05, 0.05], [0.9, 0.025, 0.025, 0.025, 0.025]])
    (word,) = build_decoder(labels, beam_width=100).decode(np.log(probabilities)).words
    shares = texts_of(np.log(probabilities), labels, 0)
    agreeing = sum(probability for words, probability in shares.items() if "a" in words)
    assert word.text == "a"
    assert word.confidence == pytest.approx(0.55 * agreeing)


def test_a_lexicon_counts_every_segmentation_of_a_word():
    """No single segmentation of `the` is likely, but their sum is."""
    labels = ["", "▁the", "▁th", "e", "▁t", "he", "▁tea"]
    rows = np.array([[0.01, 0.25, 0.24, 0.01, 0.24, 0.01, 0.24], [0.3, 0.01, 0.01, 0.32, 0.01, 0.34, 0.01]])
    decoder = build_decoder(labels, lexicon=["the", "tea"], only_lexicon=True)
    assert decoder.decode(np.log(rows)).text == "the"
    rows[0, [1, 2, 4, 6]] = 0.01, 0.01, 0.01, 0.94
    assert decoder.decode(np.log(rows)).text == "tea"


def test_hotwords_are_found_in_any_segmentation():
    for path in (["▁the", "s"], ["▁th", "e", "s"], ["▁", "t", "h", "e", "s"], ["▁thes"]):
        emission = emission_of(BPE, [*path, "<blk>", "▁he"])
        (hypothesis,) = build_decoder(BPE, blank="<blk>", hotwords={"thes": 4.0}).decode(emission).hypotheses
        assert (hypothesis.text, hypothesis.hotword_score) == ("thes he", 4.0)
        (hotword,) = hypothesis.hotwords
        assert (hotword.text, hotword.start_frame, hotword.end_frame) == ("thes", 0 + (path[0] == "▁"), len(path))


def test_a_hotword_wins_over_a_likelier_text():
    labels = ["", "▁the", "▁thee", "s"]
    rows = np.array([[0.1, 0.3, 0.5, 0.1], [0.5, 0.1, 0.1, 0.3]])
    assert build_decoder(labels).decode(np.log(rows)).text == "thee"
    assert build_decoder(labels, hotwords={"the": 3.0}).decode(np.log(rows)).text == "the"
    with pytest.warns(AsrWarning, match="'zoo' has 'z', 'o'"):
        build_decoder(labels, hotwords={"the": 3.0, "zoo": 3.0})


def test_a_language_model_of_words_chooses_among_texts(tmp_path):
    labels = ["", "▁the", "▁thee", "s", "m"]
    rows = np.array([[0.1, 0.3, 0.5, 0.05, 0.05], [0.6, 0.1, 0.1, 0.1, 0.1]])
    model = write_arpa(tmp_path / "words.arpa", {"the": -0.3, "thee": -4.0})
    assert build_decoder(labels, model).decode(np.log(rows)).text == "the"
    characters = write_arpa(tmp_path / "letters.arpa", {"t": -1.0, "h": -1.0, "e": -1.0, "<space>": -1.0, "s": -1.0})
    (hypothesis,) = build_decoder(labels, characters, lm_weight=0.1).decode(np.log(rows)).hypotheses
    assert hypothesis.text == "thee"
    assert hypothesis.lm == pytest.approx(-5 * math.log(10))  # the letters and the end, not the space of the piece


def test_bytes_and_whole_characters_are_one_word():
    """é as a piece and é in bytes."""
    labels = ["", "▁caf", "é", "<0xC3>", "<0xA9>"]
    one = emission_of(labels, ["▁caf", "é", ""])
    other = emission_of(labels, ["▁caf", "<0xC3>", "<0xA9>"])
    mixed = np.logaddexp(one, other) - math.log(2)
    hypotheses = build_decoder(labels, num_best=100, beam_width=1000).decode(mixed).hypotheses
    assert len({h.text for h in hypotheses}) == len(hypotheses)
    assert hypotheses[0].text == "café"
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    labels = ["", "▁a", "▁", *every_byte]
    path = ["▁", "<0xC3>", "<0xA9>", "▁a"]
    decoder = build_decoder(labels, hotwords={"é": 2.0}, lexicon=["é", "a"], only_lexicon=True)
    transcript = decoder.decode(emission_of(labels, path))
    assert transcript.text == "é a"
    assert transcript.hypotheses[0].hotwords[0].text == "é"


def test_batches_on_threads_give_what_one_by_one_gives(rng):
    decoder = build_decoder(BPE, blank="<blk>", logits=True, hotwords={"the": 2.0})
    logits = rng.normal(size=(4, 30, len(BPE))) * 3
    lengths = [30, 0, 17, 29]
    alone = [decoder.decode(row[:length]) for row, length in zip(logits, lengths, strict=True)]
    logits[2, 17:] = np.nan  # padding
    as_tensor = torch.from_numpy(logits)
    for batch, frames in ((logits, lengths), (as_tensor, torch.tensor(lengths)), (list(logits), np.array(lengths))):
        for num_threads in (None, 1, 3):
            assert decoder.decode_batch(batch, frames, num_threads=num_threads) == alone
    assert decoder.decode_batch([logits[0], logits[2, :17]]) == [alone[0], alone[2]]
    assert decoder.decode_batch([]) == []


def test_frames_in_pieces_give_what_the_whole_gives(rng):
    decoder = build_decoder(BPE, blank="<blk>").decoder
    emission = np.log(rng.dirichlet(np.full(decoder.labels.size, 0.1), size=60))
    assert decoder._search is not None
    state = decoder._search.start()
    for start in range(0, 60, 7):
        state.advance(emission[start : start + 7])
        prefix = decoder.alphabet.decode(state.stable_prefix())
        assert decoder.alphabet.decode(state.finish()[0].tokens).startswith(prefix)
    assert state.finish()[0].score == decoder._search.decode(emission)[0].score


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: d.decode(np.zeros((2, 3, 5))),
            r"an emission must be \(T, 5\), one utterance; got shape \(2, 3, 5\)",
        ),
        (lambda d: d.decode(np.zeros((3, 5))), "apply log_softmax .*; or build the decoder with logits=True"),
        (
            lambda d: d.decode(np.zeros((3, 4))),
            r"an emission must be \(T, 5\), a column for each label; got shape \(3, 4\)$",
        ),
        (lambda d: d.decode_batch(np.zeros((2, 3, 5)), [1]), r"lengths must be \(B,\) whole numbers .*, 2; got shape"),
        (lambda d: d.decode_batch(np.zeros((2, 3, 5)), [1.0, 2.0]), "lengths must be .* in float64"),
        (lambda d: d.decode_batch(np.zeros((2, 3, 5)), [1, 4]), r"lengths must lie in 0 \.\. 3; lengths\[1\] is 4"),
        (lambda d: d.decode_batch([], num_threads=0), "num_threads must be at least 1; got 0"),
    ],
)
def test_other_emissions_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(build_decoder(["", "▁a", "b", "c", "d"]))


def test_options_that_do_not_fit_subwords_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="fuse_lm needs labels of one character each"):
        build_decoder(BPE, blank="<blk>", fuse_lm="english")
    with pytest.raises(InputError, match=r"lexicon\[1\]: 'zoo' cannot be spelled in the model's alphabet"):
        build_decoder(BPE, blank="<blk>", lexicon=["the", "zoo"])
    with pytest.raises(InputError, match=r"lexicon\[0\]: a line of a lexicon must be one word, not 'the he'"):
        build_decoder(BPE, blank="<blk>", lexicon=["the he"])
    (tmp_path / "words.txt").write_text("the\nhe\n")
    path = build_decoder(BPE, blank="<blk>", lexicon=tmp_path / "words.txt", only_lexicon=True)
    words = build_decoder(BPE, blank="<blk>", lexicon=["the", "he"], only_lexicon=True)
    emission = emission_of(BPE, ["▁the", "s", "▁he"], sure=0.6)
    assert path.decode(emission).hypotheses == words.decode(emission).hypotheses
    with pytest.raises(ConfigError, match="lexicon must be a file or a list of words; got both"):
        asr.LanguageOptions(lexicon="words.txt", known_words=("the",))


def test_files_of_labels_are_read(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("<blk> 0\n▁THE 1\nS 2\n#0 3\n", encoding="utf-8")
    emission = emission_of(["<blk>", "▁THE", "S"], ["▁THE", "S"])
    for source in (path, str(path)):
        assert build_decoder(source).decode(emission).text == "THES"
