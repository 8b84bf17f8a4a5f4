"""Hypotheses merged and rescored, with scores that can be worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.ctc.beam import BeamHypothesis
from asr.decoding import rescoring
from asr.decoding.decoder import Decoder
from asr.decoding.options import DecodingOptions, RescoringOptions
from asr.decoding.rescoring import LEAST_SCORE, Rescorer, merge_duplicates, rerank
from asr.errors import ConfigError, InputError
from asr.lm.ngram import NgramModel
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.options import from_json, replace_options
from asr.options import to_json as to_values
from asr.output.formats import to_explanation, to_json
from asr.text.alphabet import Alphabet

FRUIT = Alphabet(tuple(" AEIPR"))


def make_hypothesis(
    text: str, score: float, acoustic_score: float | None = None, lm_score: float = 0.0
) -> BeamHypothesis:
    return BeamHypothesis(
        tokens=np.array(FRUIT.encode(text), dtype=np.int64),
        text=text,
        words=tuple(text.split()),
        score=score,
        acoustic_score=score if acoustic_score is None else acoustic_score,
        lm_score=lm_score,
    )


def text_of(hypothesis: BeamHypothesis) -> str:
    return " ".join(hypothesis.words)


def biased_model(unit="word", entries=("PAIR", "PEAR"), favourite=3) -> LanguageModel:
    """A model that says the same of every token, whatever came before: its favourite has most of the probability."""
    torch.manual_seed(0)
    network = NetworkOptions(hidden_size=4, embedding_size=4, tied=False)
    model = LanguageModel(LanguageModelConfig(unit=unit, entries=entries, network=network)).eval()
    with torch.no_grad():
        model.softmax.linear.weight.zero_()
        model.softmax.linear.bias.zero_()
        model.softmax.linear.bias[favourite] = 5.0
    return model


def weights(**values: float) -> DecodingOptions:
    return from_json(DecodingOptions, {"rescore_weight": 0.8, "rescore_word_bonus": 0.25, **values})


def test_hypotheses_of_the_same_words_are_one_with_the_sum_of_their_probabilities():
    hypotheses = [make_hypothesis("PEAR", -1.0), make_hypothesis("PAIR", -1.2), make_hypothesis(" PEAR ", -1.5, -2.0)]
    pear, pair = merge_duplicates(hypotheses)
    assert text_of(pear) == "PEAR" and pair is hypotheses[1]
    assert pear.acoustic_score == pytest.approx(np.logaddexp(-1.0, -2.0))
    assert pear.score == pytest.approx(np.logaddexp(-1.0, -2.0))
    later, first = make_hypothesis("PAIR", -2.0), make_hypothesis("PEAR", -1.9)
    assert merge_duplicates([first, later, make_hypothesis("PAIR ", -2.0)])[0].words == (
        "PAIR",
    )  # the sum is above -1.9


def test_the_language_model_moves_what_people_say_to_the_front():
    model = biased_model()
    lists = [[make_hypothesis("PAIR", -1.0), make_hypothesis("PEAR", -3.0)], [make_hypothesis("", -0.5)]]
    rescored = Rescorer(model, weights()).rescore(lists)
    assert [text_of(hypothesis) for hypothesis in rescored[0]] == ["PEAR", "PAIR"]
    normaliser = math.log(3 + math.exp(5))
    best = rescored[0][0]
    assert best.rnn_score == pytest.approx(5 - normaliser - normaliser, abs=1e-5)  # PEAR, then <eos>
    assert best.score == pytest.approx(-3.0 + 0.8 * best.rnn_score + 0.25, abs=1e-5)
    assert rescored[1][0].rnn_score == pytest.approx(-normaliser, abs=1e-5)
    assert Rescorer(model, weights(rescore_weight=0.0, rescore_word_bonus=0.0)).rescore(lists)[0][0].words == ("PAIR",)


@pytest.fixture
def source(tmp_path) -> NgramModel:
    """The acoustic model learnt from much with P, E, A and R in it, and little with I."""
    entries = dict.fromkeys("PEAR", 0.2) | {"<space>": 0.05, "I": 0.05}
    lines = "".join(f"{math.log10(each):.9f}\t{word}\n" for word, each in entries.items())
    path = tmp_path / "source.arpa"
    path.write_text(
        f"\\data\\\nngram 1={len(entries) + 3}\n\n\\1-grams:\n-99\t<s>\n-1.301029996\t<unk>\n"
        f"-1.301029996\t</s>\n{lines}\n\\end\\\n"
    )
    return NgramModel.read(path)


def test_what_the_training_texts_are_like_is_taken_off(source):
    lists = [[make_hypothesis("PEAR", -1.0), make_hypothesis("PAIR", -1.2)]]
    plain = Rescorer(biased_model(favourite=0), weights()).rescore(lists)[0]
    assert [text_of(each) for each in plain] == ["PEAR", "PAIR"] and plain[0].source_score is None
    options = weights(source_weight=0.5)
    (rescored,) = Rescorer(biased_model(favourite=0), options, source=source).rescore(lists)
    assert [text_of(each) for each in rescored] == ["PAIR", "PEAR"]
    for each, expected in zip(rescored, (0.2**3 * 0.05, 0.2**4), strict=True):
        assert each.source_score == pytest.approx(math.log(expected) + math.log(0.05), abs=1e-6)  # with </s>
        before = next(hypothesis for hypothesis in plain if hypothesis.words == each.words)
        assert each.score == pytest.approx(before.score - 0.5 * each.source_score, abs=1e-6)


def test_the_source_model_is_not_taken_off_letters_that_have_a_price(source):
    """Both are one <unk>, and as clear; one has six letters more, for which the source model would pay."""
    lists = [[make_hypothesis("PEAR REAPPEAR", -1.0), make_hypothesis("PEAR EA", -1.0), make_hypothesis("", -50.0)]]

    def rescored(**values: float) -> list[BeamHypothesis]:
        options = weights(source_weight=0.5, **values)
        return Rescorer(biased_model(), options, source=source, lexicon=frozenset({"PEAR"})).rescore(lists)[0]

    free, priced = rescored(), rescored(unknown_letter_score=-0.1)
    assert [text_of(each) for each in free] == ["PEAR REAPPEAR", "PEAR EA", ""]
    assert priced[0].score == priced[1].score
    for each in priced[:2]:
        before = next(hypothesis for hypothesis in free if hypothesis.words == each.words)
        assert each.source_score == pytest.approx(
            4 * math.log(0.2) + 2 * math.log(0.05), abs=1e-6
        )  # PEAR, space and </s>
        assert before.source_score == pytest.approx(each.source_score + len(each.words[1]) * math.log(0.2), abs=1e-6)
    assert priced[2].source_score == free[2].source_score == pytest.approx(math.log(0.05), abs=1e-6)


def test_words_that_only_the_lexicon_has_share_the_unknown_word():
    """The probabilities of PEAR, PAIR, and the four others sum to one, and other words keep all of <unk>'s."""
    model, lexicon = biased_model(favourite=1), frozenset({"PEAR", "PIPE", "RARE", "PIE", "PEER"})
    rescorer = Rescorer(model, weights(), lexicon=lexicon | {"REAP"}, expected=["REAP"])

    def log_prob(word):
        (plain,), (shared,) = (
            each.rescore([[make_hypothesis(word, -1.0)]])[0] for each in (Rescorer(model, weights()), rescorer)
        )
        return plain.rnn_score, shared.rnn_score

    for word in ("PEAR", "PAIR", "APE", "REAP"):
        plain, shared = log_prob(word)
        assert shared == plain
    for word in ("PIPE", "RARE", "PIE", "PEER"):
        plain, shared = log_prob(word)
        assert shared == pytest.approx(plain - math.log(4))
    twice = rescorer.rescore([[make_hypothesis("PIE PEAR PIE", -1.0)]])[0][0]
    plain = Rescorer(model, weights()).rescore([[make_hypothesis("PIE PEAR PIE", -1.0)]])[0][0]
    assert twice.rnn_score == pytest.approx(plain.rnn_score - 2 * math.log(4))
    assert twice.score == pytest.approx(plain.score - 0.8 * 2 * math.log(4))


def test_a_model_of_characters_spells_the_words_of_the_lexicon():
    model = biased_model(unit="character", entries=tuple(" AEIPR"), favourite=2)
    lists = [[make_hypothesis("PIE", -1.0)]]
    with_lexicon = Rescorer(model, weights(), lexicon=frozenset({"PIE", "PEAR"})).rescore(lists)
    assert with_lexicon[0][0].rnn_score == Rescorer(model, weights()).rescore(lists)[0][0].rnn_score


def test_a_folder_from_before_letters_had_a_price_decodes_as_it_did():
    values = to_values(DecodingOptions(rescoring=RescoringOptions(source_weight=0.5)))
    del values["unknown_letter_score"]
    assert from_json(DecodingOptions, values).search.unknown_letter_score == 0.0


def test_without_a_lexicon_no_word_is_unknown(source):
    lists = [[make_hypothesis("PEAR REAPPEAR", -1.0)]]
    scores = [
        Rescorer(biased_model(), weights(unknown_letter_score=price), source=source).rescore(lists)[0][0].score
        for price in (0.0, -0.5)
    ]
    assert scores[0] == scores[1]


def test_a_hotword_is_no_unknown_word(pear_model, source, tmp_path, rng):
    """The lexicon of the search is the language model's, and hotwords: the source model is taken off those."""
    (tmp_path / "lm.arpa").write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-2\t<unk>\n-0.5\t</s>\n-0.3\tPAIR\n\n\\end\\\n"
    )
    options = DecodingOptions.of(
        beam_width=50,
        num_best=99,
        lm=str(tmp_path / "lm.arpa"),
        unknown_letter_score=-0.1,
        rescore_lm=pear_model,
        source_lm=str(tmp_path / "source.arpa"),
        rescore_within=99.0,
    )

    def hypothesis(options: DecodingOptions, text: str = "PEAR"):
        return next(each for each in Decoder(FRUIT, options).decode(emission(rng)).hypotheses if each.text == text)

    unknown, expected = hypothesis(options), hypothesis(replace_options(options, hotwords=("PEAR",)))
    assert unknown.word_score == pytest.approx(-5.0 - 4 * 0.1) and expected.word_score == 0.0
    assert unknown.source == pytest.approx(math.log(0.05), abs=1e-6)
    assert expected.source == pytest.approx(4 * math.log(0.2) + math.log(0.05), abs=1e-6)
    two = replace_options(options, hotwords=("PER", "PIR"))  # unknown to both models; neither shares <unk>
    assert hypothesis(two, "PER").rnn == hypothesis(options, "PER").rnn


def test_the_model_of_the_search_may_count_less_when_hypotheses_are_rescored():
    hypotheses = [
        make_hypothesis("PEAR", -1.0 - 0.6 * 2.0, acoustic_score=-1.0, lm_score=-2.0),
        make_hypothesis("PAIR", -0.5 - 0.6 * 4.0, acoustic_score=-0.5, lm_score=-4.0),
    ]
    assert rerank(hypotheses, weights(lm_weight=0.6, rescore_lm_weight=0.0)) == hypotheses  # nothing has been asked yet
    asked = [replace(each, rnn_score=-3.0) for each in hypotheses]
    pair, pear = rerank(asked, weights(lm_weight=0.6, rescore_lm_weight=0.0))
    assert (text_of(pair), text_of(pear)) == ("PAIR", "PEAR")
    assert pair.score == pytest.approx(-0.5 - 0.8 * 3.0 + 0.25) and pear.score == pytest.approx(-1.0 - 0.8 * 3.0 + 0.25)


def test_what_the_model_cannot_spell_goes_behind_and_keeps_its_order():
    model = biased_model(unit="character", entries=tuple("AEPR"), favourite=1)
    lists = [[make_hypothesis("PAIR", -1.0), make_hypothesis("PIE", -2.0), make_hypothesis("PEAR", -30.0)]]
    (rescored,) = Rescorer(model, weights(rescore_weight=0.5, rescore_word_bonus=0.0)).rescore(lists)
    assert [text_of(hypothesis) for hypothesis in rescored] == ["PEAR", "PAIR", "PIE"]
    assert rescored[1].rnn_score == LEAST_SCORE


def test_groups_change_nothing_and_what_is_too_long_stays_as_it_is(monkeypatch):
    rescorer = Rescorer(biased_model(), weights())
    lists = [[make_hypothesis("PAIR", -1.0), make_hypothesis("PEAR", -3.0)], [make_hypothesis("PEAR PEAR", -0.5)]] * 3
    whole = rescorer.rescore(lists)
    monkeypatch.setattr(rescoring, "TOGETHER", 9)
    for one, other in zip(whole, rescorer.rescore(lists), strict=True):
        assert [text_of(hypothesis) for hypothesis in one] == [text_of(hypothesis) for hypothesis in other]
        assert [hypothesis.score for hypothesis in one] == pytest.approx([hypothesis.score for hypothesis in other])
    monkeypatch.setattr(rescoring, "LONGEST", 8)
    kept = rescorer.rescore(lists)
    assert kept[1] == lists[1] and kept[1][0].rnn_score is None
    assert [text_of(hypothesis) for hypothesis in kept[0]] == ["PEAR", "PAIR"]


@pytest.fixture
def pear_model(tmp_path) -> str:
    biased_model().save(tmp_path / "lm")
    return str(tmp_path / "lm")


def emission(rng) -> np.ndarray:
    """PAIR a little likelier than PEAR."""
    rows = []
    for choices in ({"P": 0.9}, {"A": 0.48, "E": 0.46}, {"I": 0.48, "A": 0.46}, {"R": 0.9}):
        row = np.full(FRUIT.size, 1e-3)
        for character, probability in choices.items():
            row[FRUIT.encode(character)[0]] = probability
        rows.append(row / row.sum())
    return np.log(np.array(rows))


def test_decoding_rescores_and_reports_each_part(pear_model, rng):
    options = DecodingOptions.of(
        beam_width=50, num_best=2, rescore_lm=pear_model, rescore_weight=0.5, rescore_word_bonus=1.0
    )
    transcript = Decoder(FRUIT, options).decode(emission(rng))
    assert Decoder(FRUIT, DecodingOptions.of(beam_width=50)).decode(emission(rng)).text == "PAIR"
    assert transcript.text == "PEAR" and [word.text for word in transcript.words] == ["PEAR"]
    best = transcript.hypotheses[0]
    assert best.score == pytest.approx(best.acoustic + 0.5 * best.rnn + best.word_score)
    assert best.word_score == 1.0 and best.spans == ((0, 1), (1, 2), (2, 3), (3, 4))
    assert 0.5 < transcript.words[0].confidence < 1.0


def test_the_parts_of_a_score_add_up(pear_model, source, tmp_path, rng):
    (tmp_path / "lm.arpa").write_text(
        "\\data\\\nngram 1=5\n\n\\1-grams:\n-99\t<s>\n-2\t<unk>\n-0.5\t</s>\n-0.3\tPAIR\n-1.5\tPEAR\n\n\\end\\\n"
    )
    options = DecodingOptions.of(
        beam_width=50,
        num_best=8,
        lm=str(tmp_path / "lm.arpa"),
        lm_weight=0.7,
        rescore_lm=pear_model,
        rescore_lm_weight=0.4,
        rescore_word_bonus=0.25,
        source_lm=str(tmp_path / "source.arpa"),
        source_weight=0.4,
    )
    transcript = Decoder(FRUIT, options).decode(emission(rng))
    assert {"PAIR", "PEAR"} < {each.text for each in transcript.hypotheses}
    for each in transcript.hypotheses:
        models = 0.4 * each.lm + 0.5 * each.rnn - 0.4 * each.source
        assert each.score == pytest.approx(each.acoustic + models + each.word_score, abs=1e-5)
    assert "source" in json.loads(to_json(transcript))["hypotheses"][0]
    rows = [line.split() for line in to_explanation(transcript).splitlines()]
    assert rows[0] == ["score", "acoustic", "lm", "rnn", "source", "words", "text"]
    for row in rows[1:]:
        assert float(row[0]) == pytest.approx(sum(map(float, row[1:6])), abs=0.04)


def test_where_its_layers_do_not_run_in_bfloat16_the_language_model_computes_in_float32(monkeypatch, pear_model):
    options = DecodingOptions.of(beam_width=4, rescore_lm=pear_model)
    for runs, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("asr.lm.rnn.can_run", lambda *_, answer=runs, **__: answer)
        decoder = Decoder(FRUIT, options, dtype=torch.bfloat16)
        assert decoder._rescorer is not None and decoder._rescorer.model.dtype == dtype


def test_many_utterances_together_give_what_each_gives_alone(pear_model, rng):
    decoder = Decoder(FRUIT, DecodingOptions.of(beam_width=20, num_best=5, rescore_lm=pear_model))
    emissions = [np.log(rng.dirichlet(np.full(FRUIT.size, 0.3), size=frames) + 1e-9) for frames in (0, 3, 9, 20)]
    emissions = [each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in emissions]
    together = decoder.decode_many(emissions, durations_seconds=[None] * 4)
    for one, other in zip(together, map(decoder.decode, emissions), strict=True):
        assert [each.text for each in one.hypotheses] == [each.text for each in other.hypotheses]
        assert [each.score for each in one.hypotheses] == pytest.approx([each.score for each in other.hypotheses])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rescore_lm": "x"}, "rescore_lm needs a beam"),
        (
            {"beam_width": 9, "rescore_weight": -1.0},
            "rescore_weight must be between 0 and 1000000, not -1.0",
        ),
        (
            {"beam_width": 9, "rescore_word_bonus": math.inf},
            "rescore_word_bonus must be between -1000000 and 1000000, not inf",
        ),
        (
            {"beam_width": 9, "rescore_lm_weight": -0.1},
            "rescore_lm_weight must be between 0 and 1000000, not -0.1",
        ),
        (
            {"beam_width": 9, "source_weight": -0.1},
            "source_weight must be between 0 and 1000000, not -0.1",
        ),
        ({"beam_width": 9, "source_lm": "x"}, "source_lm needs rescore_lm; give one, or leave it out"),
        ({"beam_width": 9, "rescore_count": 0}, "rescore_count must be at least 1, not 0"),
    ],
)
def test_wrong_options_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_json(DecodingOptions, values)


def test_rescoring_wants_a_wide_beam_unless_told_otherwise_and_goes_with_it():
    assert DecodingOptions().changed({"rescore_lm": "x"}).search.beam_width == 100
    own = DecodingOptions.of(beam_width=50, rescore_lm="lm")
    assert own.changed({"beam_width": 1}) == DecodingOptions()


def test_the_source_model_goes_with_rescoring():
    own = DecodingOptions.of(beam_width=50, rescore_lm="lm", source_lm="source")
    assert own.changed({"rescore_lm": None}) == DecodingOptions.of(beam_width=50)
    assert own.changed({"beam_width": 1}) == DecodingOptions()
    assert own.changed({"source_lm": None}) == DecodingOptions.of(beam_width=50, rescore_lm="lm")
    assert own.changed({"rescore_lm": "other"}).rescoring.source_lm == "source"


def test_another_language_model_counts_as_much_when_hypotheses_are_rescored():
    own = DecodingOptions.of(beam_width=50, lm="lm", lm_weight=0.6, rescore_lm="rnn", rescore_lm_weight=0.0)
    for changes in ({"lm": "mine"}, {"lm": "mine", "lm_weight": 0.4}, {"lm_weight": 0.3}, {"fuse_lm": "mine"}):
        assert own.changed(changes).rescoring.rescore_lm_weight is None
    assert own.changed({"lm": "mine", "rescore_lm_weight": 0.2}).rescoring.rescore_lm_weight == 0.2
    for changes in ({"lm": None}, {"num_best": 3}):
        assert own.changed(changes).rescoring.rescore_lm_weight == 0.0


@pytest.mark.parametrize(("old", "new", "missing"), [("\tI\n", "\tJ\n", "I"), ("<space>", "X", "<space>")])
def test_a_source_model_that_lacks_a_character_is_refused(source, tmp_path, pear_model, old, new, missing):
    path = tmp_path / "other.arpa"
    path.write_text((tmp_path / "source.arpa").read_text().replace(old, new))
    options = DecodingOptions.of(beam_width=9, rescore_lm=pear_model, source_lm=str(path))
    message = f"source_lm must have all characters of the acoustic model, in the same case; {path} lacks {missing}"
    with pytest.raises(InputError, match=message):
        Decoder(FRUIT, options)


def test_a_source_model_of_words_is_refused(tmp_path, pear_model):
    (tmp_path / "words.arpa").write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-2\t<unk>\n-0.5\t</s>\n-0.3\tPEAR\n\n\\end\\\n"
    )
    options = DecodingOptions.of(beam_width=9, rescore_lm=pear_model, source_lm=str(tmp_path / "words.arpa"))
    with pytest.raises(InputError, match=r"source_lm must be an n-gram model of characters; .*words\.arpa is of words"):
        Decoder(FRUIT, options)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no language model 'nothing'"):
        Decoder(FRUIT, DecodingOptions.of(beam_width=9, rescore_lm="nothing"))
