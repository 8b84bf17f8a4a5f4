"""Weights found on planted errors, and by the command on a real small model."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

import asr
from asr.acoustic.config import read_config, write_config
from asr.cli.evaluate import main
from asr.data.manifest import read_manifest
from asr.decoding import beam_search as search
from asr.decoding.options import DecodingOptions
from asr.errors import DataError, InputError
from asr.evaluation import tuning
from asr.evaluation.error_rates import evaluate
from asr.evaluation.tuning import GRID, prior_of, store_decoding, tune, tune_decoding
from asr.lm.estimation import estimate_ngram
from asr.lm.ngram import characters
from asr.lm.recurrent import LanguageModelConfig, NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.options import replace_options, to_json
from asr.text.alphabet import BLANK, Alphabet

CONFIDENCE = ("confidence_temperature", "confidence_power", "confidence_calibration", "greedy_confidence_power")
PRIOR = ("prior", "prior_weight")
SEARCHED = ("lm_weight", "word_bonus", "unknown_word_score", "unknown_letter_score", *PRIOR, *CONFIDENCE)


def test_no_weights_of_the_grid_have_fewer_errors(rng):
    for names in (
        ["lm_weight", "rescore_weight", "word_bonus"],
        ["word_bonus", "unknown_word_score", "unknown_letter_score"],
        ["lm_weight"],
    ):
        sizes = rng.integers(1, 6, size=12)
        base = [rng.normal(0, 3, size) for size in sizes]
        terms = {name: [rng.normal(0, 3, size) for size in sizes] for name in names}
        errors = [rng.integers(0, 5, size) for size in sizes]
        found, fewest = tune(base, terms, errors)

        def count(weights, base=base, terms=terms, errors=errors):
            total = 0
            for number, (scores, faults) in enumerate(zip(base, errors, strict=True)):
                weighed = [weight * terms[name][number] for name, weight in weights.items()]
                total += int(faults[np.argmax(sum(weighed, start=scores))])
            return total

        everything = itertools.product(*(GRID[name] for name in names))
        assert fewest == count(found) == min(count(dict(zip(names, each, strict=True))) for each in everything)


def test_among_weights_with_equal_errors_it_takes_the_surest():
    """The right hypothesis is 2 nats behind, and 10 nats better in the language model: any weight above 0.2 will do."""
    weights, errors = tune([[0.0, -2.0]], {"rescore_weight": [[-10.0, 0.0]], "word_bonus": [[1, 1]]}, [[1, 0]])
    assert errors == 0 and weights["rescore_weight"] == max(GRID["rescore_weight"])


def test_impossible_hypotheses_are_hypotheses_all_the_same():
    """Of the first utterance no hypothesis can be spelled by the language model; both have errors."""
    impossible = [[-1e9, -1e9], [-3.0, -1.0, -2.0]]
    _, errors = tune([[0.0, -1.0], [0.0, -1.0, -2.0]], {"rescore_weight": impossible}, [[2, 3], [1, 1, 1]])
    assert errors == 3


def test_without_utterances_there_is_nothing_to_tune_on():
    with pytest.raises(InputError, match="weights need utterances with known text to be tuned on; got none"):
        tune([], {}, [])


@pytest.fixture
def folder(tone_run, tmp_path):
    """A copy of the model of the tones with a language model of characters inside."""
    shutil.copytree(tone_run[0] / "model", tmp_path / "model")
    torch.manual_seed(0)
    network = NetworkOptions(hidden_size=8, embedding_size=8)
    LanguageModel(LanguageModelConfig(unit="character", entries=tuple("ABC "), network=network)).save(
        tmp_path / "model" / "lm"
    )
    return tmp_path / "model"


def test_the_command_stores_what_it_found_and_the_folder_can_move(folder, tone_corpus, tmp_path, capsys):
    dev = tone_corpus / "dev.jsonl.gz"
    assert main([str(folder), str(dev), "--tune", "--rescore-lm", str(folder / "lm"), "--precision", "float32"]) == 0
    printed = capsys.readouterr()
    assert "asr-evaluate: tuned: prior_weight 0, rescore_weight " in printed.err
    assert f"asr-evaluate: weights stored in {folder}\n" in printed.err
    config = read_config(folder)
    assert (config.decoding.rescoring.rescore_lm, config.decoding.search.beam_width) == ("lm", 100)
    said = config.provenance["decoding"]
    assert said["tuned on"] == "dev.jsonl.gz"

    moved = shutil.move(folder, tmp_path / "moved")
    recognizer = asr.load(moved, device="cpu", precision="float32")
    assert recognizer.decoder.options.rescoring.rescore_lm == str(tmp_path / "moved" / "lm")
    assert evaluate(recognizer, read_manifest(dev)).wer.counts.rate == pytest.approx(said["wer"], abs=1e-5)
    transcript = recognizer.transcribe(read_manifest(dev)[0].audio)
    assert transcript.hypotheses[0].rnn is not None


@pytest.mark.filterwarnings("ignore:modified Kneser-Ney cannot estimate discounts")
def test_the_training_texts_have_a_weight_of_their_own(folder, tone_corpus, capsys):
    """A source model that lies in the folder is named relative to it, and its weight is one of those that are found."""
    source = folder / "source.arpa"
    train = [utterance.text for utterance in read_manifest(tone_corpus / "train.jsonl.gz")]
    estimate_ngram([characters(text) for text in train], order=2).write(source)
    flags = ["--rescore-lm", str(folder / "lm"), "--source-lm", str(source), "--precision", "float32"]
    assert main([str(folder), str(tone_corpus / "dev.jsonl.gz"), "--tune", *flags]) == 0
    said = capsys.readouterr().err
    assert ", source_weight " in said
    assert "asr-evaluate: warning: 8 utterances are few for tuning: on others the weights may be worse\n" in said
    assert read_config(folder).decoding.rescoring.source_lm == "source.arpa"
    assert asr.load(folder, device="cpu").decoder.options.rescoring.source_lm == str(source)
    source.unlink()
    search._read_version.cache_clear()
    with pytest.raises(DataError, match=f"{source}: .*No such file"):
        asr.load(folder, device="cpu")
    shutil.rmtree(folder / "lm")
    with pytest.raises(InputError, match=f"no language model '{folder / 'lm'}'"):
        asr.load(folder, device="cpu", decoding={"source_lm": None})


def test_what_the_tuned_options_give_is_no_worse(folder, tone_corpus):
    utterances = read_manifest(tone_corpus / "dev.jsonl.gz")
    recognizer = asr.load(folder, device="cpu", precision="float32", decoding={"rescore_lm": str(folder / "lm")})
    before = evaluate(recognizer, utterances).wer.counts.errors
    options = tune_decoding(recognizer, utterances)
    after = evaluate(recognizer.with_decoding(options), utterances).wer.counts.errors
    assert after <= before
    names = ("rescore_weight", "rescore_word_bonus", *PRIOR, *CONFIDENCE)
    assert changed_options(recognizer.decoder.options, options) <= set(names)


@pytest.fixture
def misleading(folder) -> str:
    """A 1-gram model of words that the tones never say but one, and of which each is dear."""
    path = folder / "words.arpa"
    words = "".join(f"-2.0\t{word}\n" for word in ("</s>", "A", "B", "C", "AB", "BA", "CAB", "ABC"))
    path.write_text(f"\\data\\\nngram 1=10\n\n\\1-grams:\n-99\t<s>\n-3.0\t<unk>\n{words}\n\\end\\\n")
    return str(path)


def test_weights_that_a_first_search_leads_astray_are_found_by_the_next(folder, misleading, tone_corpus):
    """A bonus of -2 runs all words together; the hypotheses of that search alone could not say what to do about it."""
    utterances = read_manifest(tone_corpus / "dev.jsonl.gz")
    astray = {"lm": misleading, "beam_width": 16, "lm_weight": 1.5, "word_bonus": -2.0, "unknown_word_score": 0.0}
    recognizer = asr.load(folder, device="cpu", precision="float32", decoding=astray)
    greedy = asr.load(folder, device="cpu", precision="float32", decoding={"beam_width": 1})
    before, aim = (evaluate(each, utterances).wer.counts.errors for each in (recognizer, greedy))
    options = tune_decoding(recognizer, utterances)
    after = evaluate(recognizer.with_decoding(options), utterances).wer.counts.errors
    assert after <= aim < before
    assert changed_options(recognizer.decoder.options, options) <= set(SEARCHED)


def changed_options(before: DecodingOptions, after: DecodingOptions) -> set[str]:
    old, new = to_json(before), to_json(after)
    return {name for name in old if old[name] != new[name]}


def prefers_a(text: str, alphabet: Alphabet) -> np.ndarray:
    """(T, V) of a model that hears every letter, but takes it for an A a little sooner; Φ between them."""
    rows = []
    for character in text:
        label, (favourite,) = alphabet.encode(character)[0], alphabet.encode("A")
        row = np.full((2, alphabet.size), 0.01)
        row[0, favourite], row[1, BLANK] = 0.5, 0.9
        row[0, label] = 0.9 if label == favourite else 0.4
        rows.append(row / row.sum(axis=1, keepdims=True))
    return np.log(np.concatenate(rows))


def test_a_model_that_prefers_a_label_is_told_by_how_often_it_writes_it(folder, monkeypatch):
    recognizer = asr.load(folder, device="cpu", precision="float32", decoding={"beam_width": 8})
    texts = ["AB CBA", "CC B ACAB", "BAC C", "CAB AB B"]
    emissions = [prefers_a(text, recognizer.model.alphabet) for text in texts]
    monkeypatch.setattr(tuning, "_emissions", lambda *_: (texts, emissions))
    options = tune_decoding(recognizer, [])
    assert options.prior_weight > 0 and sum(options.prior) == pytest.approx(1, abs=1e-4)
    texts_with = []
    for weight in (0.0, options.prior_weight):
        decoder = recognizer.with_decoding(replace_options(options, prior_weight=weight)).decoder
        texts_with.append([decoder.decode(emission).text for emission in emissions])
    before, after = texts_with
    assert "B" not in "".join(before) and after == texts
    store_decoding(folder, options, tuned_on="dev", word_error_rate=0.5)
    assert asr.load(folder, device="cpu").decoder.options == options


def test_the_average_posterior_of_each_label():
    emissions = [np.log([[0.5, 0.5, 1e-30]]), np.log([[1.0, 1e-30, 1e-30], [0.75, 0.25, 1e-30]])]
    assert prior_of(emissions) == (0.75, 0.25, 1e-5)


@pytest.mark.parametrize("decoding", [{"beam_width": 1}, {"beam_width": 4}])
def test_chinese_is_tuned_by_its_characters_as_words(folder, tone_corpus, decoding):
    spelled = str.maketrans("ABC", "好棒学")
    config = read_config(folder)
    characters = tuple(character.translate(spelled) for character in config.characters)
    write_config(folder, replace(config, characters=characters))
    utterances = [
        replace(each, text=each.text.translate(spelled)) for each in read_manifest(tone_corpus / "dev.jsonl.gz")
    ]
    recognizer = asr.load(folder, device="cpu", precision="float32", decoding=decoding)
    options = tune_decoding(recognizer, utterances)
    assert evaluate(recognizer.with_decoding(options), utterances).wer.counts.rate < 0.2


@pytest.mark.parametrize("decoding", [{"beam_width": 1}, {"beam_width": 16}])
def test_confidences_are_truer_with_what_was_tuned(folder, tone_corpus, decoding):
    """With noise over the log-probabilities, so that words come out wrong, and as sure as they were."""
    utterances = read_manifest(tone_corpus / "dev.jsonl.gz")
    vain = {
        "confidence_calibration": (),
        "confidence_temperature": 0.7,
        "confidence_power": 0.0,
        "greedy_confidence_power": 0.0,
    }
    recognizer = asr.load(folder, device="cpu", precision="float32", runtime="torch", decoding={**decoding, **vain})
    with torch.no_grad():
        for parameter in recognizer.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    options = tune_decoding(recognizer, utterances)
    before, after = (
        evaluate(recognizer.with_decoding(each), utterances) for each in (replace_options(options, **vain), options)
    )
    assert before.wer.counts.errors > 0
    assert surprise(after) < surprise(before)


def surprise(evaluation) -> float:
    """Nats, for each word, that it takes to learn whether it is right."""
    judged = [each for utterance in evaluation.utterances for each in utterance.judged]
    return -statistics.mean(math.log(max(sure if right else 1 - sure, 1e-6)) for sure, right in judged)


def test_the_command_tunes_the_confidences_of_greedy_decoding(folder, tone_corpus, capsys):
    assert main([str(folder), str(tone_corpus / "dev.jsonl.gz"), "--tune"]) == 0
    assert "asr-evaluate: tuned: greedy_confidence_power 0\n" in capsys.readouterr().err
    assert read_config(folder).decoding == DecodingOptions.of(greedy_confidence_power=0.0)


def test_places_outside_of_the_folder_stay_as_they_are(folder, tmp_path):
    outside = DecodingOptions.of(beam_width=9, lm=str(tmp_path / "x.arpa"), rescore_lm="english-lm")
    store_decoding(folder, outside, tuned_on="dev", word_error_rate=0.5)
    values = json.loads((folder / "config.json").read_text())["decoding"]
    assert values["lm"] == str(tmp_path / "x.arpa")


def test_a_place_is_stored_so_that_it_holds_wherever_one_stands(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.arpa").write_text("")
    (tmp_path / "english-lm").mkdir()  # which does not hide the embedded one
    options = DecodingOptions.of(beam_width=9, lm="x.arpa", rescore_lm="english-lm", hotwords=("AB",), num_best=7)
    store_decoding(folder, options, tuned_on="dev", word_error_rate=0.5)
    stored = read_config(folder).decoding
    assert (stored.language.hotwords, stored.num_best) == ((), 1)  # of a day, not of the model
    assert (stored.language.lm, stored.rescoring.rescore_lm) == (str(tmp_path / "x.arpa"), "english-lm")


def test_what_greedy_decoding_is_tuned_for_leaves_a_beam_and_its_models_in_place(folder, tone_corpus):
    own = DecodingOptions.of(beam_width=8, rescore_lm="lm", confidence_power=0.3, greedy_confidence_power=5.0)
    store_decoding(folder, own, tuned_on="dev", word_error_rate=0.5)
    said = read_config(folder).provenance["decoding"]
    assert main([str(folder), str(tone_corpus / "dev.jsonl.gz"), "--tune", "--beam-width", "1"]) == 0
    stored = read_config(folder)
    assert stored.decoding == replace_options(own, greedy_confidence_power=0.0)
    assert stored.provenance["decoding"] == said


def test_an_embedded_model_is_left_as_it_is(tone_corpus, capsys):
    assert main(["an4", str(tone_corpus / "dev.jsonl.gz"), "--tune"]) == 2
    assert "an embedded model must not be changed; copy " in capsys.readouterr().err


def test_what_a_model_brings_can_be_turned_off(folder):
    own = DecodingOptions.of(beam_width=50, rescore_lm="lm", lm="a.arpa")
    assert own.changed({"rescore_lm": None, "lm": None}) == DecodingOptions.of(beam_width=50)
