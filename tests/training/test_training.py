"""Whole trainings of small models: they learn, resume exactly, survive kills, and name what goes wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import asr
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions, FrontendOptions
from asr.acoustic.shapes import Wav2Vec2Shape, WhisperShape
from asr.acoustic.wav2vec2 import Wav2Vec2Encoder
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import AsrWarning, ConfigError, DataError
from asr.options import from_json, to_json
from asr.training.acoustic import train_acoustic_model
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.augmentation import AugmentOptions
from asr.training.config import TrainingConfig, TuningOptions
from asr.training.log import read_log
from asr.training.loop import Diverged, Interrupted, fit
from asr.training.optimizer import update
from asr.training.run_folder import locked
from asr.training.task import BatchLoss
from tests.oracles import load_or_skip
from tests.processors import needs_bfloat16
from tests.tones import speak
from tests.whispers import write_folder


def train(config, folder, notes=None):
    return train_acoustic_model(config, folder, device="cpu", note=(notes if notes is not None else []).append)


def losses(folder):
    return [record["loss"] for record in read_log(folder) if record["kind"] == "step"]


def epochs(folder):
    return [record for record in read_log(folder) if record["kind"] == "epoch"]


def test_a_training_learns_and_leaves_what_the_run_folder_promises(tone_run):
    folder, notes = tone_run
    assert epochs(folder)[-1]["wer"] == 0.0
    assert losses(folder)[-1] < 0.2 < 2.0 < losses(folder)[0]
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "log.jsonl",
        "checkpoints",
        "tensorboard",
        "curve.png",
        "model",
    }
    assert any(note.startswith("44 utterances") for note in notes)
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_folder_transcribes_and_holds_no_trace_of_the_phones(tone_run):
    folder, _ = tone_run
    recognizer = asr.load(folder / "model", device="cpu", precision="float32")
    for text in ("CAB", "AAB C"):
        waveform = speak(text, np.random.default_rng(99))
        assert recognizer.transcribe((waveform, 8000)).text == text
    assert not [name for name in load_file(folder / "model" / "weights.safetensors") if "phone" in name]
    provenance = recognizer.model.config.provenance
    assert provenance["dev"]["wer"] == 0.0
    assert from_json(TrainingConfig, provenance["training"]).loop.epochs == 30


def test_the_phones_of_words_without_pronunciation_are_left_out_and_named(tone_run):
    _, notes = tone_run
    (note,) = (note for note in notes if "no pronunciation" in note)
    assert "train without phones" in note


def test_the_same_configuration_gives_the_same_losses(tone_config, tmp_path):
    train(tone_config(), tmp_path / "a")
    train(tone_config(), tmp_path / "b")
    train(tone_config(seed=1), tmp_path / "c")
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


@pytest.mark.parametrize("chunked", [0.0, 0.6])
def test_a_run_interrupted_in_an_epoch_resumes_loss_for_loss(tone_config, tmp_path, monkeypatch, chunked):
    config = tone_config()
    config = replace(config, data=replace(config.data, chunked=chunked))
    train(config, tmp_path / "whole")
    interrupt_at(monkeypatch, len(losses(tmp_path / "whole")) // 3 + 1)
    with pytest.raises(Interrupted, match="stopped in epoch 2; the same command resumes from here"):
        train(config, tmp_path / "parts")
    notes: list[str] = []
    train(config, tmp_path / "parts", notes)
    assert any(note.startswith("resuming after step") for note in notes)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert epochs(tmp_path / "parts") == epochs(tmp_path / "whole")
    whole, parts = (AcousticModel.load(tmp_path / name / "model").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_workers_of_two_processes_change_nothing(tone_config, tmp_path):
    config = tone_config(epochs=1, learning_rate=2e-3)
    train(config, tmp_path / "alone")
    train_acoustic_model(config, tmp_path / "fed", device="cpu", note=lambda _: None, processes=2, workers=1)
    assert losses(tmp_path / "fed") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    (record,) = (record for record in read_log(tmp_path / "fed") if record["kind"] == "time")
    assert 0.0 <= record["waiting"] <= 1.0


def interrupt_at(monkeypatch, step):
    """From now on, the signal that a terminal's Ctrl-C sends comes in the middle of that step."""
    plain, calls = AcousticTask.loss, count(1)

    def loss(task, batch, *, generator):
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(task, batch, generator=generator)

    monkeypatch.setattr(AcousticTask, "loss", loss)


@needs_bfloat16
def test_a_run_goes_on_in_float32_where_its_format_does_not_run(tone_config, tmp_path, monkeypatch):
    train(tone_config(epochs=1, precision="bfloat16"), tmp_path)
    for precision in ("auto", "bfloat16"):
        train(tone_config(epochs=1, precision=precision), tmp_path)
    monkeypatch.setattr("asr.training.run_folder.can_run", lambda *_, **__: False)
    with pytest.warns(
        AsrWarning, match="was trained in bfloat16, which this processor cannot run: continuing in float32"
    ):
        train(tone_config(epochs=1, precision="auto"), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["precision"] == "bfloat16"


def test_a_finished_run_is_not_trained_again(tone_config, tmp_path):
    train(tone_config(epochs=1), tmp_path)
    before = losses(tmp_path)
    train(tone_config(epochs=1), tmp_path)
    assert losses(tmp_path) == before


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(tone_config, tmp_path):
    config = tone_config()
    train(config, tmp_path / "whole")
    train(config, tmp_path / "run")
    last = sorted((tmp_path / "run" / "checkpoints").glob("step-*.pt"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    notes: list[str] = []
    train(config, tmp_path / "run", notes)
    assert any("damaged: its checksum is wrong; " in note for note in notes)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_when_no_checkpoint_can_be_read_nothing_is_thrown_away(tone_config, tmp_path):
    train(tone_config(epochs=2), tmp_path)
    for path in (tmp_path / "checkpoints").glob("step-*.pt"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no checkpoint can be read .* delete the folder to start again"):
        train(tone_config(epochs=2), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("loop", [{}, {"precision": "float16"}])
def test_what_the_device_lacks_is_refused_before_there_is_a_folder(tone_config, tmp_path, loop):
    backend = "auto" if loop else "cudnn"
    with pytest.raises(
        ConfigError, match=r"(ctc_backend cudnn|precision float16) needs a CUDA device, not cpu: try auto"
    ):
        train_acoustic_model(tone_config(ctc_backend=backend, **loop), tmp_path / "run", note=print)
    assert not (tmp_path / "run").exists()


def test_another_configuration_in_the_same_run_folder_is_refused(tone_config, tmp_path):
    run = tmp_path / "a run"
    train(tone_config(epochs=1), run)
    with pytest.raises(ConfigError, match=r"other options \(loop.seed was 0, now 5\); to continue it") as caught:
        train(tone_config(epochs=1, seed=5), run)
    assert f": asr-train --run '{run}' --resume; to train with these, choose another folder" in str(caught.value)
    assert str(caught.value).endswith(f"--config '{run}/config.json' --init '{run}/model' --loop.seed 5")
    shutil.rmtree(run / "model")  # as before the end of the run
    with pytest.raises(ConfigError, match=r"--resume; to train with these, choose another folder$"):
        train(tone_config(epochs=1, seed=5), run)


def test_other_data_in_the_same_run_folder_are_refused(tone_config, tone_corpus, tmp_path):
    shutil.copy(tone_corpus / "train.jsonl.gz", tmp_path / "mine.jsonl.gz")
    config = tone_config(epochs=2)
    config = replace(config, data=replace(config.data, train=(str(tmp_path / "mine.jsonl.gz"),)))
    train(config, tmp_path / "run")
    write_manifest(read_manifest(tone_corpus / "train.jsonl.gz")[:-4], tmp_path / "mine.jsonl.gz")
    with pytest.raises(
        DataError, match="the training data have changed since the run began; choose another run folder"
    ):
        train(config, tmp_path / "run")


def test_weights_of_an_epoch_that_are_damaged_are_left_out_of_the_average(tone_config, tmp_path):
    config = tone_config(epochs=2, average_best=2)
    train(config, tmp_path)
    weights = sorted((tmp_path / "checkpoints").glob("epoch-*.safetensors"))
    weights[0].write_bytes(weights[0].read_bytes()[:1000])
    notes: list[str] = []
    train_acoustic_model(config, tmp_path, device="cpu", note=notes.append, progress=False)
    assert any(f"{weights[0]}: the weights are damaged or missing: " in note for note in notes)
    weights[1].unlink()
    with pytest.raises(DataError, match="the weights of no epoch can be read; delete the folder to start again"):
        train(config, tmp_path)


def test_a_file_in_place_of_the_folder_is_one_sentence(tone_config, tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"a training needs a folder, but .*a\.txt is a file"):
        train(tone_config(), tmp_path / "a.txt")


def test_two_trainings_in_one_folder_do_not_mix(tone_config, tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match=r"another process is training in .*; wait for it"):
        train(tone_config(epochs=1), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_first_try_with_a_wrong_manifest_does_not_hold_the_folder(tone_config, tmp_path):
    config = tone_config(epochs=1)
    with pytest.raises(DataError, match=r"none\.jsonl"):
        train(replace(config, data=replace(config.data, train=("none.jsonl",))), tmp_path)
    train(config, tmp_path)


def test_training_goes_on_from_a_given_model(tone_run, tone_config, tmp_path):
    folder, _ = tone_run
    train(tone_config(epochs=1, learning_rate=1e-5, init=str(folder / "model")), tmp_path)
    assert losses(tmp_path)[0] < 0.5
    with pytest.raises(ConfigError, match=r"init: the encoder of .* must have the shape"):
        config = tone_config(init=str(folder / "model"))
        train(replace(config, encoder=replace(config.encoder, hidden_size=5)), tmp_path / "other")


def test_an_impossible_and_a_long_utterance_are_left_out_by_name(tone_config, tone_corpus, tmp_path):
    utterances = read_manifest(tone_corpus / "train.jsonl.gz")
    utterances[0] = replace(utterances[0], text="ABC" * 60)
    longest = max(utterances[1:], key=lambda utterance: utterance.duration_seconds)
    write_manifest(utterances, tmp_path / "train.jsonl.gz")
    config = tone_config()
    data = replace(config.data, train=(str(tmp_path / "train.jsonl.gz"),), max_seconds=longest.duration_seconds - 0.001)
    notes: list[str] = []
    task = prepare_acoustic_task(replace(config, data=data), device=torch.device("cpu"), note=notes.append)
    assert len(task.train_examples) <= 42
    assert any(f"({utterances[0].id})" in note and "more characters than frames" in note for note in notes)
    assert any(longest.id in note and "longer than max_seconds" in note for note in notes)


def test_characters_outside_the_alphabet_are_named_or_counted(tone_config, tone_corpus, tmp_path):
    utterances = read_manifest(tone_corpus / "train.jsonl.gz")
    utterances[0] = replace(utterances[0], text="A~B")
    write_manifest(utterances, tmp_path / "train.jsonl.gz")
    config = tone_config()
    config = replace(config, text=replace(config.text, punctuation="keep"))
    data = replace(config.data, train=(str(tmp_path / "train.jsonl.gz"),), unknown_characters="~")
    notes: list[str] = []
    task = prepare_acoustic_task(replace(config, data=data), device=torch.device("cpu"), note=notes.append)
    assert "~" not in task.alphabet.characters
    assert any("'~' (1)" in note for note in notes)


class BrokenTask:
    """A linear model of one weight whose loss is what the test says at each step."""

    criterion = "wer"
    learning_rates = {}  # noqa: RUF012
    waiting_remedy = ": see --workers"
    data_digest = ""

    def __init__(self, values, *, blank_share=0.0):
        self.modules = torch.nn.ModuleDict({"model": torch.nn.Linear(1, 1, bias=False)})
        self.values = values
        self.blank_share = blank_share
        self.weights = []

    def num_batches(self, epoch):
        return len(self.values)

    def batches(self, epoch, *, start):
        yield from self.values[start:]

    def loss(self, batch, *, generator):
        self.weights.append(self.modules["model"].weight.item())
        loss = self.modules["model"].weight.sum() * batch
        return BatchLoss(loss=loss, figures={"loss": loss.item()}, ids=("u1", "u2"), blank_share=self.blank_share)

    def evaluate(self):
        return {"wer": 1.0, "loss": 1.0}


def test_a_loss_that_is_not_finite_is_skipped_and_named(tone_config, tmp_path):
    task, notes = BrokenTask([1.0, float("nan"), float("inf"), 1.0]), []
    fit(task, tone_config(epochs=1).loop, tmp_path, note=notes.append)
    assert task.weights[1] == task.weights[2] == task.weights[3]
    assert [note for note in notes if "not finite, step skipped; the batch had u1, u2" in note] != []


def test_too_many_such_steps_in_a_row_stop_the_run(tone_config, tmp_path):
    task = BrokenTask([float("nan")] * 5)
    with pytest.raises(Diverged, match=r"3 steps in a row were not finite: lower the learning rate \(0.02\)"):
        fit(task, tone_config(epochs=1, patience_steps=3).loop, tmp_path, note=lambda note: None)


def test_a_model_that_says_nothing_is_noticed_once_with_a_cure(tone_config, tmp_path):
    task, notes = BrokenTask([1.0] * 400, blank_share=1.0), []
    fit(task, tone_config(epochs=2).loop, tmp_path, note=notes.append)
    assert len([note for note in notes if "only Φ for 300 steps" in note and "learning rate" in note]) == 1


def test_an_exploding_gradient_is_clipped():
    """A relu network whose gradient grows without bound over time: the step it takes is as short as clip_norm says."""
    torch.manual_seed(0)
    network = torch.nn.RNN(1, 4, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        network.weight_hh_l0.copy_(2.0 * torch.eye(4))
    before = {name: value.clone() for name, value in network.named_parameters()}
    loss = network(torch.ones(1, 40, 1))[0].sum()
    norm = update(network, torch.optim.SGD(network.parameters(), lr=1.0), loss, rate=1.0, clip_norm=0.5)
    moved = sum((value - before[name]).square().sum() for name, value in network.named_parameters()).sqrt()
    assert norm > 1e9
    assert moved.item() == pytest.approx(0.5, rel=1e-3)


# On the features of a pretrained encoder


@pytest.fixture
def pretrained(tmp_path):
    """A folder with a Whisper encoder of random weights."""
    shape = WhisperShape(d_model=24, encoder_layers=2, encoder_attention_heads=3, encoder_ffn_dim=32)
    return write_folder(tmp_path / "whisper", shape)


def test_a_model_learns_on_a_pretrained_encoder_and_keeps_it(tone_config, pretrained, tone_corpus, tmp_path):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=16),
        augment=AugmentOptions(speeds=(1.0,)),
        epochs=4,
    )
    before = load_file(pretrained / "model.safetensors")
    run = tmp_path / "run"
    train(config, run)
    assert epochs(run)[-1]["loss"] < epochs(run)[0]["loss"] - 0.1
    shutil.rmtree(pretrained)
    model = AcousticModel.load(run / "model")
    assert model.frame_seconds == 0.04
    assert model.config.frontend.pretrained is None  # a path of this machine
    origin = model.config.provenance["pretrained"]
    assert (origin["name"], origin["licence"]) == ("someone/encoder", "mit")
    for name, value in model.frontend.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name  # frozen
    asr.load(run / "model").transcribe(read_manifest(tone_corpus / "dev.jsonl.gz")[0].audio)
    tuned = train(replace(config, frontend=model.config.frontend, init=str(run / "model")), tmp_path / "tuned")
    assert tuned.config.frontend == model.config.frontend
    assert tuned.config.provenance["pretrained"] == origin
    assert epochs(tmp_path / "tuned")[-1]["loss"] < epochs(run)[0]["loss"]


def test_a_pretrained_encoder_needs_its_sample_rate():
    with pytest.raises(ConfigError, match="sample_rate must be 16000 with pretrained, not 8000"):
        FrontendOptions(pretrained="whisper", sample_rate=8000)


def test_a_folder_without_an_encoder_is_named(tone_config, tmp_path):
    config = tone_config(frontend=FrontendOptions(pretrained=str(tmp_path / "none")))
    with pytest.raises(DataError, match=r"none.config\.json: cannot be used: .*No such file"):
        train(config, tmp_path / "run")


def test_cached_features_train_the_same_model_and_are_computed_once(tone_config, pretrained, tmp_path, monkeypatch):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=16),
        augment=AugmentOptions(speeds=(1.0,), time_mask_max_fraction=0.0, frequency_masks=0),
        epochs=3,
        warmup_epochs=0.5,
    )
    cached = replace(config, data=replace(config.data, feature_cache=str(tmp_path / "cache"), feature_variants=1))
    notes: list[str] = []
    train(config, tmp_path / "plain")
    train(cached, tmp_path / "cached", notes)
    assert epochs(tmp_path / "cached")[-1]["loss"] == pytest.approx(epochs(tmp_path / "plain")[-1]["loss"], rel=0.02)
    assert any("lacks 100% of it" in note and "in the first epoch" in note for note in notes)
    (folder,) = (tmp_path / "cache").iterdir()
    size = (folder / "0.f16").stat().st_size

    def refuse(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr("asr.training.feature_cache.FeatureCache._compute", refuse)
    train(cached, tmp_path / "again")
    assert losses(tmp_path / "again") == losses(tmp_path / "cached")
    assert (folder / "0.f16").stat().st_size == size


@pytest.mark.parametrize("sum_layers", [False, True])
def test_the_last_layers_of_an_encoder_are_trained_from_an_epoch_on(tone_config, pretrained, tmp_path, sum_layers):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained), pretrained_sum=sum_layers),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=16),
        augment=AugmentOptions(speeds=(0.9, 1.1)),
        tuning=TuningOptions(layers=1, learning_rate=1e-3, after_epochs=1),
        epochs=2,
        warmup_epochs=0.5,
    )
    config = replace(config, loop=replace(config.loop, average_best=2))
    cached = replace(config, data=replace(config.data, feature_cache=str(tmp_path / "cache"), feature_variants=2))
    before = load_file(pretrained / "model.safetensors")
    for run, variant in (("plain", config), ("cached", cached)):
        train(variant, tmp_path / run)
        first, second = (
            load_file(path) for path in sorted((tmp_path / run / "checkpoints").glob("epoch-*.safetensors"))
        )
        for name, values in before.items():
            name_here = f"model.frontend.encoder.{name}"
            assert torch.equal(first[name_here], values), name  # frozen in the first epoch
            tuned = name.startswith(("layers.1.", "layer_norm."))
            assert torch.equal(second[name_here], values) != tuned, name
        assert ("model.frontend.layer_weights" in second) == sum_layers
    assert len(list((tmp_path / "cache").iterdir())) == 1
    model = AcousticModel.load(tmp_path / "cached" / "model")
    assert model.config.frontend.pretrained_sum == sum_layers
    on = replace(cached, frontend=model.config.frontend, init=str(tmp_path / "cached" / "model"))
    train(on, tmp_path / "on")
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the frozen layers are the same


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
def test_a_model_learns_on_an_encoder_of_transformers(tone_config, tone_corpus, tmp_path, kind):
    """Group norm and post-norm layers, then layer norms: cached, its last layer tuned, loaded again, transcribing."""
    load_or_skip("transformers")
    large = kind == "wavlm"
    shape = Wav2Vec2Shape(
        model_type=kind,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        feat_extract_norm="layer" if large else "group",
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=large,
    )
    torch.manual_seed(1)
    before = Wav2Vec2Encoder(shape).state_dict()
    folder = tmp_path / "encoder"
    folder.mkdir()
    convolution = "encoder.pos_conv_embed.conv.weight"
    stored = {
        name if name.startswith("feature_") else f"encoder.{name.replace('input_norm', 'layer_norm')}": value
        for name, value in before.items()
    }
    directions = stored.pop(convolution)
    magnitudes = torch.linalg.vector_norm(directions, dim=(0, 1), keepdim=True)
    stored |= {f"{convolution}_g": magnitudes, f"{convolution}_v": directions}
    save_file({f"{kind}.{name}": value for name, value in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(to_json(shape) | {"license": "mit"}))
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(folder)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=16),
        augment=AugmentOptions(speeds=(1.0,)),
        tuning=TuningOptions(layers=1, learning_rate=1e-3, after_epochs=1),
        epochs=3,
    )
    config = replace(
        config,
        data=replace(config.data, feature_cache=str(tmp_path / "cache"), feature_variants=1),
        loop=replace(config.loop, average_best=1),
    )
    notes: list[str] = []
    train(config, tmp_path / "run", notes)
    assert epochs(tmp_path / "run")[-1]["loss"] < epochs(tmp_path / "run")[0]["loss"] - 0.1
    assert sum("go through its convolutions one by one" in note for note in notes) == (not large)
    shutil.rmtree(folder)
    model = AcousticModel.load(tmp_path / "run" / "model")
    assert model.frame_seconds == 0.04
    assert model.config.frontend.wav2vec2 == replace(shape, normalize_waveform=large)
    assert model.config.provenance["pretrained"]["licence"] == "mit"
    for name, value in model.frontend.encoder.state_dict().items():
        frozen = not name.startswith(("layers.1.", "layer_norm."))
        if not name.endswith("k_proj.bias"):  # a constant for all keys changes nothing, and is not trained
            assert torch.allclose(value, before[name], atol=1e-6) == frozen, name
    audio = read_manifest(tone_corpus / "dev.jsonl.gz")[0].audio
    asr.load(tmp_path / "run" / "model").transcribe(audio)
    on = replace(config, frontend=model.config.frontend, init=str(tmp_path / "run" / "model"))
    train(on, tmp_path / "on")
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the frozen layers are the same


def test_tuning_needs_an_encoder_with_as_many_layers(tone_config, pretrained, tmp_path):
    with pytest.raises(ConfigError, match=r"tuning\.layers needs frontend\.pretrained"):
        tone_config(tuning=TuningOptions(layers=1))
    config = tone_config(frontend=FrontendOptions(pretrained=str(pretrained)), tuning=TuningOptions(layers=3))
    with pytest.raises(ConfigError, match=r"tuning\.layers must be between 0 and 2, not 3"):
        train(config, tmp_path / "run")


def test_a_cache_of_features_survives_kills_and_names_damage(tone_config, pretrained, tmp_path):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=8),
        augment=AugmentOptions(speeds=(0.9, 1.1)),
    )
    config = replace(config, data=replace(config.data, feature_cache=str(tmp_path / "cache"), feature_variants=2))

    notes: list[str] = []

    def caches():
        task = prepare_acoustic_task(config, device=torch.device("cpu"), note=notes.append)
        return task.cache, task.train_examples[0].utterances[0], task.train_examples[1].utterances[0]

    cache, one, other = caches()
    plain, augmented, second = cache.states(one, 0, {}), cache.states(one, 1, {}), cache.states(other, 0, {})
    assert plain.shape != augmented.shape and plain.dtype == np.float16
    assert sum("lacks 100% of it" in note and "in the first 2 epochs" in note for note in notes) == 1
    index, data = cache.folder / "0.jsonl", cache.folder / "0.f16"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote the third line
    cache, one, other = caches()
    assert np.array_equal(cache.states(one, 1, {}), augmented)
    assert np.array_equal(cache.states(other, 0, {}), second)  # computed again, in the same place
    assert np.array_equal(caches()[0].states(other, 0, {}), second)
    content = bytearray(data.read_bytes())
    content[7] ^= 1
    data.write_bytes(content)
    cache, one, other = caches()
    with pytest.raises(DataError, match="cached features are damaged: delete this folder"):
        cache.states(one, 0, {})
    assert np.array_equal(cache.states(other, 0, {}), second)


def test_a_cache_says_what_it_lacks_of_these_utterances_alone(tone_config, pretrained, tmp_path, monkeypatch):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=8),
    )
    config = replace(config, data=replace(config.data, feature_cache=str(tmp_path / "cache"), feature_variants=1))
    task = prepare_acoustic_task(config, device=torch.device("cpu"), note=lambda sentence: None)
    first, second, others = task.train_examples[:1], task.train_examples[1:2], task.train_examples[1:]
    for example in others:
        task.cache.states(example.utterances[0], 0, {})
    assert "lacks 100% of it: the encoder computes it in the first epoch, in about 1 min" in task.cache.plan(first, ())
    monkeypatch.setattr("asr.training.feature_cache.num_processes", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr("time.perf_counter", count(step=6000.0).__next__)  # ten minutes for a second of sound
        assert task.cache.plan(first, ()).endswith(f"in about {math.ceil(5 * first[0].seconds)} min")
    assert task.cache.plan(second, ()).endswith("GB for these utterances")
    share = first[0].utterances[0].duration_seconds / sum(example.seconds for example in (*first, *second))
    assert f"lacks {share:.0%} of it" in task.cache.plan([*first, *second], ())
    another = prepare_acoustic_task(config, device=torch.device("cpu"), note=lambda sentence: None)
    another.cache.states(first[0].utterances[0], 0, {})
    task.batches(0, start=0)  # an epoch begins
    assert task.cache.plan([*first, *second], ()).endswith("GB for these utterances")


def test_a_full_cache_computes_the_rest_each_time(tone_config, pretrained, tmp_path):
    config = tone_config(
        frontend=FrontendOptions(pretrained=str(pretrained)),
        encoder=EncoderOptions(reduction="stack", time_strides=(2,), pool_after_layer=0, num_layers=1, hidden_size=8),
    )
    data = replace(config.data, feature_cache=str(tmp_path / "cache"), feature_cache_gigabytes=2e-5)
    notes: list[str] = []
    train(replace(config, data=data), tmp_path / "run", notes)
    assert sum("the cache of features is full (2e-05 GB)" in note for note in notes) == 1
    (folder,) = (tmp_path / "cache").iterdir()
    assert 0 < (folder / "0.f16").stat().st_size <= 20_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontend": FrontendOptions()}, "data.feature_cache needs frontend.pretrained"),
        (
            {"augment": AugmentOptions(background_probability=0.1)},
            "augment.background_probability must be 0 with data.feature_cache",
        ),
    ],
)
def test_options_that_a_cache_of_features_does_not_go_with(tone_config, pretrained, tmp_path, changes, message):
    data = replace(tone_config().data, feature_cache=str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=message):
        tone_config(**{"data": data, "frontend": FrontendOptions(pretrained=str(pretrained)), **changes})
