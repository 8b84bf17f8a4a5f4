"""Weights found on planted errors, and by the command on a real small model."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import asr
from asr.acoustic_model import read_config
from asr.cli.evaluate import main
from asr.data.manifest import read_manifest
from asr.decoding import DecodingOptions
from asr.errors import ConfigError, InputError
from asr.evaluation import evaluate
from asr.lm.rnn import LanguageModel, LanguageModelConfig, NetworkOptions
from asr.tuning import BONUSES, WEIGHTS, store_decoding, tune, tune_decoding


def random_lists(rng, count: int) -> tuple[list[np.ndarray], ...]:
    sizes = rng.integers(1, 6, size=count)
    base, ngram, rnn = ([rng.normal(0, 3, size) for size in sizes] for _ in range(3))
    words, errors = ([rng.integers(0, 5, size) for size in sizes] for _ in range(2))
    return base, ngram, rnn, words, errors


def test_no_weights_of_the_grid_have_fewer_errors(rng):
    for _ in range(5):
        base, ngram, rnn, words, errors = random_lists(rng, 12)
        found = tune(base, ngram, rnn, words, errors)

        def count(alpha, beta, bonus, lists=(base, ngram, rnn, words, errors)):
            return sum(
                int(faults[np.argmax(scores + alpha * grams + beta * recurrent + bonus * count)])
                for scores, grams, recurrent, count, faults in zip(*lists, strict=True)
            )

        fewest = min(itertools.starmap(count, itertools.product(WEIGHTS, WEIGHTS, BONUSES)))
        assert found.errors == fewest == count(found.lm_weight, found.rescore_weight, found.word_bonus)


def test_among_weights_with_equal_errors_it_takes_the_surest():
    """The right reading is 2 nats behind, and 10 nats better in the language model: any weight above 0.2 will do."""
    found = tune([np.array([0.0, -2.0])], None, [np.array([-10.0, 0.0])], [np.array([1, 1])], [np.array([1, 0])])
    assert found.errors == 0 and found.rescore_weight == max(WEIGHTS) and found.lm_weight == 0.0


def test_without_utterances_there_is_nothing_to_tune_on():
    with pytest.raises(InputError, match="weights need utterances with known text to be tuned on; got none"):
        tune([], None, [], [], [])


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
    assert "asr-evaluate: tuned: rescore_weight " in printed.err
    assert f"asr-evaluate: weights stored in {folder}\n" in printed.err
    config = read_config(folder)
    assert (config.decoding.rescore_lm, config.decoding.beam_width) == ("lm", 100)
    said = config.provenance["decoding"]
    assert said["tuned on"] == "dev.jsonl.gz"

    moved = shutil.move(folder, tmp_path / "moved")
    recognizer = asr.load(moved, device="cpu", precision="float32")
    assert recognizer.decoder.options.rescore_lm == str(tmp_path / "moved" / "lm")
    assert evaluate(recognizer, read_manifest(dev)).wer.counts.rate == pytest.approx(said["wer"], abs=1e-5)
    transcript = recognizer.transcribe(read_manifest(dev)[0].audio)
    assert transcript.hypotheses[0].rnn is not None


def test_what_the_tuned_options_give_is_no_worse(folder, tone_corpus):
    utterances = read_manifest(tone_corpus / "dev.jsonl.gz")
    recognizer = asr.load(folder, device="cpu", precision="float32", decoding={"rescore_lm": str(folder / "lm")})
    before = evaluate(recognizer, utterances).wer.counts.errors
    options = tune_decoding(recognizer, utterances)
    after = evaluate(recognizer.with_decoding(options), utterances).wer.counts.errors
    assert after <= before
    assert replace(options, rescore_weight=0.5, rescore_word_bonus=0.0, confidence_temperature=1.0) == (
        recognizer.decoder.options
    )


def test_greedy_decoding_has_nothing_to_tune(folder, tone_corpus, capsys):
    with pytest.raises(ConfigError, match="greedy decoding has nothing to tune"):
        tune_decoding(asr.load(folder, device="cpu"), read_manifest(tone_corpus / "dev.jsonl.gz"))
    assert main([str(folder), str(tone_corpus / "dev.jsonl.gz"), "--tune"]) == 2
    assert "greedy decoding has nothing to tune" in capsys.readouterr().err


def test_places_outside_of_the_folder_stay_as_they_are(folder, tmp_path):
    outside = DecodingOptions(beam_width=9, lm=str(tmp_path / "x.arpa"), rescore_lm="english-lm")
    store_decoding(folder, outside, tuned_on="dev", word_error_rate=0.5)
    values = json.loads((folder / "config.json").read_text())["decoding"]
    assert values["lm"] == str(tmp_path / "x.arpa")


def test_an_embedded_model_is_left_as_it_is(tone_corpus, capsys):
    assert main(["an4", str(tone_corpus / "dev.jsonl.gz"), "--tune"]) == 2
    assert "an embedded model must stay as it is; copy " in capsys.readouterr().err


def test_what_a_model_brings_can_be_turned_off(folder):
    own = DecodingOptions(beam_width=50, rescore_lm="lm", lm="a.arpa")
    assert own.changed({"rescore_lm": "none", "lm": "none"}) == DecodingOptions(beam_width=50)
