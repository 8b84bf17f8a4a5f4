"""Trainings of small language models: they learn, resume exactly with the state carried on, refuse what is wrong; and
several processes train as one does."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.errors import ConfigError, DataError
from asr.lm.ngram import NgramModel
from asr.lm.prefix_tree import score_together
from asr.lm.recurrent import NetworkOptions
from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import VocabularyOptions
from asr.text.normalization import TextOptions
from asr.training import language
from asr.training.config import LanguageLoopOptions, LanguageTrainingConfig, NgramTrainingConfig, TextDataOptions
from asr.training.distributed import joined, rank
from asr.training.language import train_language_model
from asr.training.language_task import LanguageTask, prepare_language_task, read_dev
from asr.training.launch import launch
from asr.training.log import read_log
from asr.training.loop import Interrupted
from asr.training.ngram import train_ngram
from asr.training.run_folder import locked

ANIMALS = {"cat": "purrs", "dog": "barks", "cow": "moos", "owl": "hoots"}


def lines(count: int, seed: int) -> str:
    """A language in which the animal decides the sound, with one word in between."""
    rng = np.random.default_rng(seed)
    names, adverbs = list(ANIMALS), ["often", "never", "always"]
    chosen = [names[index] for index in rng.integers(0, 4, count)]
    return "".join(f"The {name} {adverbs[rng.integers(3)]} {ANIMALS[name]}.\n" for name in chosen)


@pytest.fixture
def config(tmp_path: Path) -> LanguageTrainingConfig:
    (tmp_path / "train.txt").write_text(lines(400, seed=0))
    (tmp_path / "dev.txt").write_text(lines(60, seed=1) + "\nThe emu often hoots.\n")
    return LanguageTrainingConfig(
        data=TextDataOptions(
            train=(str(tmp_path / "train.txt"),), dev=(str(tmp_path / "dev.txt"),), batch_size=8, chunk_length=10
        ),
        network=NetworkOptions(hidden_size=24, embedding_size=12, cutoffs=(6,), divisor=2),
        loop=LanguageLoopOptions(epochs=3, learning_rate=0.02, precision="float32"),
        name="animals",
    )


def train(config, folder, notes=None) -> LanguageModel:
    return train_language_model(
        config, folder, device="cpu", note=(notes if notes is not None else []).append, progress=False
    )


def losses(folder: Path, kind: str = "step") -> list[float]:
    return [record["loss"] for record in read_log(folder) if record["kind"] == kind]


def test_a_model_learns_the_language_and_its_folder_says_how(config, tmp_path):
    notes: list[str] = []
    model = train(replace(config, loop=replace(config.loop, epochs=8)), tmp_path / "run", notes)
    right, wrong = score_together(model, ["the cow never moos", "the cow never barks"])
    assert right - wrong > 3.0
    loaded = LanguageModel.load(tmp_path / "run" / "model")
    assert np.array_equal(score_together(loaded, ["the owl"]), score_together(model, ["the owl"]))
    provenance = loaded.config.provenance
    assert provenance["training"]["data"]["train"] == ["train.txt"]
    assert provenance["tokens"] == 2000
    # Four animals and three adverbs, each as likely: 12 sentences, of which the model foretells four words and an end.
    assert 12 ** (1 / 5) < provenance["dev"]["perplexity"] < 12 ** (1 / 5) + 0.8
    assert any("400 sentences (2000 tokens) to train on, 61 for dev; 14 tokens" in note for note in notes)
    assert any("<unk> 0.00% of train and 0.41% of dev" in note for note in notes)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "log.jsonl", "text", "model"}


def test_a_model_of_characters_learns_too(config, tmp_path):
    config = replace(config, vocabulary=VocabularyOptions(unit="character"), loop=replace(config.loop, epochs=4))
    model = train(config, tmp_path / "run")
    right, wrong = score_together(model, ["the dog often barks", "eht god netfo skrab"])
    assert right - wrong > 15.0
    assert " " in model.config.entries and len(model.config.entries) < 27


def test_a_run_that_is_killed_goes_on_loss_for_loss(config, tmp_path, monkeypatch):
    """In the middle of the second epoch: the state of each row is part of the checkpoint."""
    train(config, tmp_path / "whole")
    loss = LanguageTask.loss

    def stopping(self, batch, *, generator):
        if self.steps == 37:
            raise KeyboardInterrupt
        self.steps += 1
        return loss(self, batch, generator=generator)

    frequent = replace(config, loop=replace(config.loop, checkpoint_minutes=1e-9))
    monkeypatch.setattr(LanguageTask, "steps", 0, raising=False)
    monkeypatch.setattr(LanguageTask, "loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(frequent, tmp_path / "cut")
    monkeypatch.setattr(LanguageTask, "loss", loss)
    model = train(frequent, tmp_path / "cut")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole = LanguageModel.load(tmp_path / "whole" / "model").state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())


def test_the_state_is_carried_from_chunk_to_chunk_and_begins_anew_with_an_epoch(config, tmp_path):
    torch.manual_seed(0)
    config = replace(config, network=replace(config.network, dropout=0.0))
    task = prepare_language_task(config, tmp_path, device=torch.device("cpu"), note=lambda _: None)
    generator = torch.Generator()
    chunks = list(task.batches(0, start=0))[:3]
    with torch.inference_mode():
        found = [task.loss(chunk, generator=generator).figures["loss"] for chunk in chunks]
        inputs, targets = (torch.cat([getattr(c, name) for c in chunks], dim=1) for name in ("inputs", "targets"))
        hidden, _ = task.model(inputs, task.model.start_state(8))
        whole = -task.model.target_log_probs(hidden.flatten(0, 1), targets.flatten()).view(8, 30)
        expected = [float(part.mean()) for part in whole.split(10, dim=1)]
        assert found == pytest.approx(expected, abs=1e-5)
        again = task.loss(chunks[0], generator=generator).figures["loss"]
    assert again == pytest.approx(found[0], abs=1e-6)


def test_a_training_from_a_model_goes_on_with_its_weights_and_words(config, tmp_path):
    """On a text in which other animals make other sounds; the words that the model lacks are <unk>."""
    first = train(config, tmp_path / "first")
    (tmp_path / "new.txt").write_text("The yak never barks.\n" * 40)
    data = replace(config.data, train=(str(tmp_path / "new.txt"),))
    again = replace(config, data=data, init=str(tmp_path / "first" / "model"))
    still = train(replace(again, loop=replace(config.loop, learning_rate=1e-12, epochs=1)), tmp_path / "still")
    sentences = ["the cow never moos", "the yak never barks"]
    np.testing.assert_allclose(score_together(still, sentences), score_together(first, sentences), rtol=1e-5)
    moved = train(again, tmp_path / "moved")
    assert moved.config.entries == first.config.entries and "YAK" not in moved.config.entries
    assert score_together(moved, sentences)[1] > score_together(first, sentences)[1] + 3.0
    assert moved.config.provenance["training"]["init"] == "model"
    assert losses(tmp_path / "moved")[0] == pytest.approx(losses(tmp_path / "still")[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": TextOptions(case="lower")}, "the text options of .*model must be those of this training"),
        ({"network": NetworkOptions(hidden_size=16)}, "the network of .*model must have the shape of this training's"),
    ],
)
def test_a_training_from_a_model_has_its_options(config, tmp_path, change, message):
    first = replace(config, loop=replace(config.loop, epochs=1))
    train(first, tmp_path / "first")
    with pytest.raises(ConfigError, match=message):
        train(replace(first, init=str(tmp_path / "first" / "model"), **change), tmp_path / "second")


def test_a_training_from_a_model_of_characters_counts_no_words(config, tmp_path):
    options = {"loop": replace(config.loop, epochs=1)}
    train(replace(config, vocabulary=VocabularyOptions(unit="character"), **options), tmp_path / "first")
    again = replace(config, init=str(tmp_path / "first" / "model"), **options)
    notes: list[str] = []
    prepare_language_task(again, tmp_path / "second", device=torch.device("cpu"), note=notes.append)
    assert " tokens in the vocabulary" in notes[-1] and "<unk>" not in notes[-1]


def test_a_training_from_a_model_chooses_no_vocabulary(config):
    with pytest.raises(ConfigError, match="a training from a model has its vocabulary: leave out vocabulary"):
        replace(config, init="english-lm", vocabulary=VocabularyOptions(unit="character"))


@pytest.mark.parametrize("cell", ["rnn-tanh", "gru", "lstm"])
def test_every_cell_carries_its_state_on_and_learns(config, tmp_path, cell):
    config = replace(config, network=replace(config.network, cell=cell), loop=replace(config.loop, epochs=1))
    train(config, tmp_path / "run")
    assert losses(tmp_path / "run")[-1] < 0.7 * losses(tmp_path / "run")[0]


def test_the_state_of_a_step_without_a_number_is_forgotten(config, tmp_path):
    task = prepare_language_task(config, tmp_path, device=torch.device("cpu"), note=lambda _: None)
    with torch.no_grad():
        task.model.projection.bias.fill_(math.nan)
        task.model.cells[0].bias_ih_l0.fill_(math.nan)
    (chunk, *_) = task.batches(0, start=0)
    result = task.loss(chunk, generator=torch.Generator())
    assert result.loss.isnan() and result.ids == ("chunk 0",)
    assert task.modules["carried"].state.isfinite().all()
    assert task.evaluate()["perplexity"] == math.inf


def test_dev_is_scored_sentence_by_sentence(config, tmp_path):
    task = prepare_language_task(config, tmp_path, device=torch.device("cpu"), note=lambda _: None)
    sentences = (tmp_path / "dev.txt").read_text().split("\n")
    total = score_together(task.model, [sentence for sentence in sentences if sentence]).sum()
    figures = task.evaluate()
    assert figures["perplexity"] == pytest.approx(math.exp(-total / (61 * 5)), rel=1e-4)
    assert figures["loss"] == pytest.approx(-total / (61 * 5), rel=1e-4)
    assert figures["character_perplexity"] < figures["perplexity"]


# Several processes

STEP = 30  # in the second epoch


def steady(config: LanguageTrainingConfig) -> LanguageTrainingConfig:
    """Without dropout, which is drawn in each process."""
    return replace(config, network=replace(config.network, dropout=0.0), loop=replace(config.loop, epochs=2))


def narrow(config: LanguageTrainingConfig) -> LanguageTrainingConfig:
    """One row: the second process has none."""
    return replace(steady(config), data=replace(config.data, batch_size=1, chunk_length=100))


def train_in_a_pair(config: LanguageTrainingConfig, folder: Path, *, note: Callable[[str], None]) -> None:
    """Three trainings, the last of which is told to stop in one of the processes."""
    loss, calls = LanguageTask.loss, []

    def stopping(self, batch, *, generator):
        calls.append(batch)
        if len(calls) == STEP and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, batch, generator=generator)

    with joined("cpu"):  # a group can meet in one place once
        train_language_model(steady(config), folder / "pair", device="cpu", note=note)
        train_language_model(narrow(config), folder / "narrow pair", device="cpu", note=note)
        LanguageTask.loss = stopping  # type: ignore[method-assign]
        train_language_model(steady(config), folder / "stopped", device="cpu", note=note)


def test_two_processes_train_as_one_does_and_one_goes_on_where_two_have_stopped(config, tmp_path):
    notes: list[str] = []
    with pytest.raises(Interrupted, match="stopped in epoch 2"):
        launch(train_in_a_pair, config, tmp_path, processes=2, note=notes.append)
    assert sum(note.endswith(" in 2 processes") for note in notes) == 3  # one of the two speaks
    train(steady(config), tmp_path / "alone")
    train(narrow(config), tmp_path / "narrow")
    assert len(losses(tmp_path / "stopped")) == STEP < len(losses(tmp_path / "alone"))
    train(steady(config), tmp_path / "stopped")
    for one, others in (("alone", ("pair", "stopped")), ("narrow", ("narrow pair",))):
        for other in others:
            assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / one), rel=1e-4)
            assert losses(tmp_path / other, "epoch") == pytest.approx(losses(tmp_path / one, "epoch"), rel=1e-4)


def test_what_cannot_be_used_is_refused(config, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n...\n")
    vocabulary = prepare_language_task(
        config, tmp_path, device=torch.device("cpu"), note=lambda _: None
    ).model.vocabulary
    with pytest.raises(DataError, match=r"empty.txt: texts must hold sentences, but there are none"):
        read_dev((str(tmp_path / "empty.txt"),), config.text, vocabulary)
    train_file = replace(config.data, train=(str(tmp_path / "empty.txt"),))
    with pytest.raises(DataError, match="the text must have a word that occurs at least 2 times"):
        train(replace(config, data=train_file), tmp_path / "run")
    notes: list[str] = []
    with pytest.raises(DataError, match=r"none.txt: the text cannot be read: No such file or directory"):
        train(replace(config, data=replace(config.data, dev=(str(tmp_path / "none.txt"),))), tmp_path / "new", notes)
    assert notes == []


def test_a_run_keeps_its_options_and_its_folder_to_itself(config, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        (tmp_path / "run" / "checkpoints").mkdir()
        (tmp_path / "run" / "checkpoints" / "step-00000001.pt").touch()
        raise Interrupted("stopped")

    monkeypatch.setattr(language, "fit", interrupted)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["network"]["hidden_size"] == 24
    with pytest.raises(ConfigError, match=r"holds a run with other options \(network.hidden_size was 24, now 25\)"):
        train(replace(config, network=replace(config.network, hidden_size=25)), tmp_path / "run")
    with locked(tmp_path / "run"), pytest.raises(ConfigError, match="another process is training in"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (TextDataOptions, {"train": (), "dev": ("d",)}, "train must be a tuple of at least one text"),
        (TextDataOptions, {"train": ("t",), "dev": "d"}, "dev must be a tuple of at least one text, not 'd'"),
        (TextDataOptions, {"train": ("t",), "dev": ("d",), "batch_size": 0}, "batch_size must be at least 1"),
        (TextDataOptions, {"train": ("t",), "dev": ("d",), "chunk_length": 0}, "chunk_length must be at least 1"),
        (NgramTrainingConfig, {"train": ()}, "train must be a tuple of at least one text"),
        (NgramTrainingConfig, {"train": ("t",), "max_words": -1}, "max_words must be at least 0, not -1"),
        (LanguageLoopOptions, {"early_stop_epochs": -1}, "early_stop_epochs must be at least 0, not -1"),
    ],
)
def test_wrong_options_are_refused(kind, given, message):
    with pytest.raises(ConfigError, match=message):
        kind(**given)


@pytest.mark.filterwarnings("ignore:modified Kneser-Ney needs")
def test_ngrams_come_from_the_same_text(config, tmp_path):
    made = NgramTrainingConfig(train=config.data.train, order=4)
    notes: list[str] = []
    model = train_ngram(made, tmp_path / "lm.arpa.gz", note=notes.append)
    assert notes == ["n-grams of each length: " + ", ".join(map(str, model.num_ngrams))]
    read = NgramModel.read(tmp_path / "lm.arpa.gz")
    right, wrong = (read.score(words.split()).sum() for words in ("THE COW NEVER MOOS", "THE COW NEVER BARKS"))
    assert right - wrong > 2.0
    characters = train_ngram(replace(made, unit="character"), tmp_path / "c.arpa", note=notes.append)
    assert characters.over_characters and "<space>" in characters.vocabulary
    with pytest.raises(ConfigError, match=r"must end in .arpa, .arpa.gz, .safetensors, not '.*lm.txt'"):
        train_ngram(made, tmp_path / "lm.txt")
    (tmp_path / "folder.arpa").mkdir()
    with pytest.raises(IsADirectoryError):
        train_ngram(made, tmp_path / "folder.arpa", note=notes.append)
    assert len(notes) == 2  # it comes before the work


@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_algorithms_are_used_if_wanted(config, tmp_path, monkeypatch, wanted):
    asked: list[bool] = []

    def spied(*arguments, **options):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return fit(*arguments, **options)

    fit = language.fit
    monkeypatch.setattr(language, "fit", spied)
    train(replace(config, deterministic=wanted), tmp_path / "run")
    assert asked == [wanted] and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_deterministic_trainings_on_a_gpu_have_the_same_losses_twice(config, tmp_path):
    logs = []
    for name in ("once", "again"):
        train_language_model(replace(config, deterministic=True), tmp_path / name, device="cuda", progress=False)
        logs.append([record["loss"] for record in read_log(tmp_path / name) if record["kind"] == "step"])
    assert logs[0] == logs[1]
