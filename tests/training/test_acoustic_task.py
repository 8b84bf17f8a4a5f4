"""What a training of an acoustic model makes of its data: examples, targets, losses, statistics."""

from __future__ import annotations

import gzip
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

from asr.acoustic.frontend import Frontend
from asr.acoustic.model import AcousticModel
from asr.acoustic.options import EncoderOptions
from asr.data.manifest import read_manifest, write_manifest
from asr.data.waveforms import read_waveform
from asr.errors import ConfigError, DataError
from asr.processes import WorkerDied, Workers
from asr.training import acoustic_loss
from asr.training.acoustic_loss import sum_possible
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.batches import make_batch
from asr.training.config import AuxiliaryOptions, TrainingConfig
from asr.training.examples import compact
from asr.training.plan import largest_batch
from asr.training.sound import Recordings, rows_in_order
from asr.training.task import OutOfMemory

CPU = torch.device("cpu")


def make_task(config: TrainingConfig, notes: list[str] | None = None) -> AcousticTask:
    torch.manual_seed(0)
    return prepare_acoustic_task(config, device=CPU, note=(notes if notes is not None else []).append)


def with_texts(config: TrainingConfig, folder: Path, **texts: str) -> TrainingConfig:
    """The configuration with other texts in its training manifest, by id."""
    utterances = [
        replace(utterance, text=texts.get(utterance.id.replace("-", "_"), utterance.text))
        for utterance in read_manifest(config.data.train[0])
    ]
    write_manifest(utterances, folder / "train.jsonl.gz")
    return replace(config, data=replace(config.data, train=(str(folder / "train.jsonl.gz"),)))


def test_an_infinite_loss_is_left_out_and_a_nan_stays() -> None:
    lengths = torch.tensor([2, 3, 5])
    total, labels = sum_possible(torch.tensor([1.0, math.inf, 4.0]), lengths)
    assert (total.item(), labels) == (5.0, 7)
    total, _ = sum_possible(torch.tensor([1.0, math.nan, 4.0]), lengths)
    assert math.isnan(total.item())
    total, labels = sum_possible(torch.full((3,), math.inf), lengths)
    assert (total.item(), labels) == (0.0, 0)


def test_the_loss_is_that_of_the_possible_utterances_per_character(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tone_config())
    task.modules.eval()
    batch = next(task.batches(0, start=0))
    assert len(batch.examples) > 2
    values = torch.arange(1.0, len(batch.examples) + 1)
    values[1] = math.inf
    monkeypatch.setattr(acoustic_loss, "ctc_loss", lambda *_, **__: values)
    result = task.loss(batch, generator=torch.Generator())
    own = [index for index in range(len(values)) if index != 1]
    characters = sum(len(batch.examples[index].labels) for index in own)
    assert result.loss.item() == result.figures["loss"] == pytest.approx(values[own].sum().item() / characters)
    assert result.skipped == (batch.examples[1].id,)
    assert result.ids == tuple(example.id for example in batch.examples)


def test_phones_that_do_not_fit_their_frames_are_named(
    tone_config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    """Each letter has a hundred phones: the characters can be aligned, the phones cannot."""
    phones = " ".join(f"P{number}" for number in range(100))
    (tmp_path / "lexicon").write_text(f"A {phones}\nB X\n")
    auxiliary = AuxiliaryOptions(lexicon=str(tmp_path / "lexicon"), layer=1, weight=0.5)
    config = with_texts(tone_config(auxiliary=auxiliary), tmp_path, tone_00="A A A", tone_01="B B")
    notes: list[str] = []
    task = make_task(config, notes)
    by_id = {example.id: example for example in task.train_examples}
    chosen = [by_id["tone-00"], by_id["tone-01"]]
    waveforms = [read_waveform(example.utterances[0], 8000) for example in chosen]
    result = task.loss(make_batch(chosen, waveforms), generator=torch.Generator())
    assert result.skipped == ("tone-00 (its phones)",)
    assert math.isfinite(result.loss.item()) and result.figures["phone_loss"] > 0


def test_the_characters_are_predicted_from_a_middle_layer_too(tone_config: Callable[..., TrainingConfig]) -> None:
    """The oracle: the same model without its last layer."""
    encoder = EncoderOptions(num_layers=2, hidden_size=12, time_strides=(1,), conv_channels=2, dropout=0.0)
    config = tone_config(encoder=encoder, auxiliary=AuxiliaryOptions(character_layer=1, character_weight=0.25))
    task = make_task(config)
    batch = next(task.batches(1, start=0))
    result = task.loss(batch, generator=torch.Generator().manual_seed(3))
    plain = make_task(replace(config, auxiliary=AuxiliaryOptions()))
    plain.modules.load_state_dict(task.modules.state_dict())
    last = plain.loss(batch, generator=torch.Generator().manual_seed(3)).loss
    del plain.model.encoder.layers[1]
    middle = plain.loss(batch, generator=torch.Generator().manual_seed(3)).loss
    assert result.figures["loss"] == pytest.approx(last.item(), rel=1e-4)
    assert result.figures["middle_loss"] == pytest.approx(middle.item(), rel=1e-4)
    assert result.loss.item() == pytest.approx(0.75 * last.item() + 0.25 * middle.item(), rel=1e-4)


def test_joined_utterances_are_one_text_with_spaces_between(tone_config: Callable[..., TrainingConfig]) -> None:
    config = tone_config()
    config = replace(config, data=replace(config.data, join_probability=0.9))
    task = make_task(config)
    texts = {example.id: example.text for example in task.train_examples}
    seconds = {example.id: example.seconds for example in task.train_examples}
    seen: list[str] = []
    for batch in task.batches(1, start=0):
        for example, length in zip(batch.examples, batch.lengths.tolist(), strict=True):
            ids = example.id.split("+")
            seen += ids
            assert example.text == " ".join(texts[id_] for id_ in ids)
            assert task.alphabet.decode(example.labels) == example.text
            assert length / 8000 >= 0.9 * sum(seconds[id_] for id_ in ids)  # speeds of up to 1.1
    assert sorted(seen) == sorted(texts)
    assert any("+" in example.id for batch in task.batches(1, start=0) for example in batch.examples)


def test_the_epoch_is_the_same_from_any_batch_on(tone_config: Callable[..., TrainingConfig]) -> None:
    task = make_task(tone_config())
    whole = list(task.batches(2, start=0))
    assert len(whole) == task.num_batches(2) > 2
    rest = list(task.batches(2, start=2))
    assert [batch.examples for batch in rest] == [batch.examples for batch in whole[2:]]
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(rest, whole[2:], strict=True))
    other = list(task.batches(3, start=0))
    assert [batch.examples for batch in other] != [batch.examples for batch in whole]


def test_the_first_batch_of_all_has_the_longest_recording(tone_config: Callable[..., TrainingConfig]) -> None:
    task = make_task(tone_config())
    longest = max(example.seconds for example in task.train_examples)
    assert max(example.seconds for example in next(task.batches(0, start=0)).examples) == longest


def test_a_character_that_the_given_model_lacks_is_refused(
    tone_run: tuple[Path, list[str]], tone_config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    config = with_texts(tone_config(init=str(tone_run[0] / "model")), tmp_path, tone_03="A XY B")
    with pytest.raises(
        DataError, match=r"must have the characters of 'tone-03', but lacks 'X', 'Y'; name them in data"
    ):
        make_task(config)
    notes: list[str] = []
    task = make_task(replace(config, data=replace(config.data, unknown_characters="YX")), notes)
    (example,) = (example for example in task.train_examples if example.id == "tone-03")
    assert task.alphabet.decode(example.labels) == "A  B"
    assert "characters outside the alphabet were left out of training targets: 'X' (1), 'Y' (1)" in notes
    several = with_texts(config, tmp_path, tone_03="A XY B", tone_04="A 1")
    expected = r"of 'tone-03', 'tone-04', but lacks '1', 'X', 'Y'; give text.numbers .*, or give init_alphabet"
    with pytest.raises(DataError, match=expected):
        make_task(several)


def test_characters_of_dev_outside_the_alphabet_are_counted(
    tone_config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    config = tone_config()
    utterances = [replace(utterance, text="ÄÄÖÜÉÈÊ") for utterance in read_manifest(config.data.dev[0])]
    write_manifest(utterances, tmp_path / "dev.jsonl.gz")
    notes: list[str] = []
    task = make_task(replace(config, data=replace(config.data, dev=(str(tmp_path / "dev.jsonl.gz"),))), notes)
    named = f"'Ä' ({2 * len(utterances)}), " + ", ".join(f"{character!r} ({len(utterances)})" for character in "ÖÜÉÈ")
    assert f"characters outside the alphabet were left out of dev targets: {named}, … (6 different ones)" in notes
    assert task.evaluate()["cer"] >= 1.0  # what cannot be said counts as not said


def test_manifests_without_usable_utterances_are_refused(
    tone_config: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    config = tone_config()
    with pytest.raises(DataError, match=r"train.jsonl.gz: at least one utterance must be usable, but none is"):
        make_task(replace(config, data=replace(config.data, max_seconds=0.01)))
    write_manifest([], tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"none.jsonl: manifests must hold utterances"):
        make_task(replace(config, data=replace(config.data, dev=(str(tmp_path / "none.jsonl"),))))


def test_an_id_that_two_manifests_share_is_left_out_only_where_it_is_faulty(
    tone_config: Callable[..., TrainingConfig], tone_corpus: Path, tmp_path: Path
) -> None:
    config = tone_config()
    faulty = [replace(utterance, text="ABC" * 60) for utterance in read_manifest(config.data.train[0])[:1]]
    write_manifest(faulty, tmp_path / "other.jsonl")
    train = (*config.data.train, str(tmp_path / "other.jsonl"))
    task = make_task(replace(config, data=replace(config.data, train=train)))
    assert [example.id for example in task.train_examples] == [u.id for u in read_manifest(config.data.train[0])]


def test_global_statistics_are_those_of_all_training_frames(tone_config: Callable[..., TrainingConfig]) -> None:
    config = tone_config()
    config = replace(config, frontend=replace(config.frontend, normalization="global", dither=4.0))
    task = make_task(config)
    plain = Frontend(replace(config.frontend, normalization="none", dither=0.0))
    frames = []
    for utterance in read_manifest(config.data.train[0]):
        waveform = torch.from_numpy(read_waveform(utterance, 8000))
        frames.append(plain(waveform[None], torch.tensor([len(waveform)]))[0][0].double().numpy())
    every = np.concatenate(frames)
    np.testing.assert_allclose(task.model.frontend.mean.numpy(), every.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(task.model.frontend.std.numpy(), every.std(axis=0), rtol=1e-3)


def test_a_given_model_keeps_its_statistics(tone_config: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    config = tone_config()
    config = replace(config, frontend=replace(config.frontend, normalization="global"))
    model = make_task(config).model
    model.frontend.set_statistics(torch.full((20,), 3.0), torch.full((20,), 2.0))
    model.save(tmp_path / "model")
    task = make_task(replace(config, init=str(tmp_path / "model")))
    assert task.model.frontend.mean.tolist() == [3.0] * 20
    assert all(
        torch.equal(value, task.model.state_dict()[name])
        for name, value in AcousticModel.load(tmp_path / "model").state_dict().items()
    )


@pytest.mark.parametrize("part", ["text", "frontend", "encoder"])
def test_a_given_model_of_another_kind_is_refused(
    tone_run: tuple[Path, list[str]], tone_config: Callable[..., TrainingConfig], part: str
) -> None:
    config = tone_config(init=str(tone_run[0] / "model"))
    changes = {"text": {"case": "lower"}, "frontend": {"num_mel_bins": 19}, "encoder": {"hidden_size": 31}}[part]
    with pytest.raises(ConfigError, match=f"init: the {part} "):
        make_task(replace(config, **{part: replace(getattr(config, part), **changes)}))
    make_task(replace(config, encoder=replace(config.encoder, dropout=0.5)))


def test_hours_are_those_of_the_utterances(tone_config: Callable[..., TrainingConfig]) -> None:
    config = tone_config()
    with gzip.open(config.data.train[0], "rt") as lines:
        seconds = [json.loads(line)["duration"] for line in lines]
    assert make_task(config).train_hours() == pytest.approx(sum(seconds) / 3600)


@pytest.mark.parametrize("lexicon", [True, False])
def test_a_share_of_the_recordings_is_noise_in_which_nothing_is_said(
    tone_corpus: Path, tone_config: Callable[..., TrainingConfig], lexicon: bool
) -> None:
    config = tone_config(
        auxiliary=AuxiliaryOptions(lexicon=str(tone_corpus / "lexicon.txt") if lexicon else "", layer=1)
    )
    silent = replace(config, augment=replace(config.augment, speeds=(1.0,), background_probability=0.3))
    heard, plain = (
        make_task(silent),
        make_task(replace(silent, augment=replace(silent.augment, background_probability=0))),
    )
    shares = []
    for epoch in range(1, 6):
        spoken = {
            example.id: (example, waveform[:length])
            for batch in plain.batches(epoch, start=0)
            for example, waveform, length in zip(batch.examples, batch.inputs, batch.lengths, strict=True)
        }
        for batch in heard.batches(epoch, start=0):
            shares += [not example.text for example in batch.examples]
            for example, waveform, length in zip(batch.examples, batch.inputs, batch.lengths, strict=True):
                same, sound = spoken[example.id]
                if example.text:
                    assert example == same
                    assert torch.equal(waveform[:length], sound)  # what is said is augmented as before
                else:
                    assert (example.labels, example.phones) == (compact(()), compact(()) if lexicon else None)
                    assert length == round(same.seconds * 8000)
            assert heard.loss(batch, generator=torch.Generator().manual_seed(0)).loss.isfinite()
    assert len(shares) == 5 * len(spoken)
    assert np.mean(shares) == pytest.approx(0.3, abs=0.1)


# Workers, rehearsal, and what is said of CTC


def test_batches_are_the_same_whoever_prepares_them(
    tone_corpus: Path, tone_config: Callable[..., TrainingConfig]
) -> None:
    auxiliary = AuxiliaryOptions(lexicon=str(tone_corpus / "lexicon.txt"), layer=1)
    config = tone_config(auxiliary=auxiliary)
    config = replace(
        config,
        data=replace(config.data, join_probability=0.5),
        augment=replace(config.augment, background_probability=0.2),
    )
    torch.manual_seed(0)
    task = prepare_acoustic_task(config, device=CPU, note=lambda _: None, workers=2)
    abandoned = task.batches(1, start=0)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    for epoch, start in ((1, 0), (2, 3)):
        alone = make_task(config).batches(epoch, start=start)
        for one, other in zip(task.batches(epoch, start=start), alone, strict=True):
            assert one.examples == other.examples
            assert torch.equal(one.lengths, other.lengths) and torch.equal(one.inputs, other.inputs)


def test_a_worker_that_is_killed_over_its_batch_is_told_of() -> None:
    with (
        Workers(mortal, processes=1) as workers,
        pytest.raises(
            WorkerDied, match=r"^a process that reads sound was killed by SIGKILL .*; the same command resumes from the"
        ),
    ):
        list(rows_in_order(workers, [Recordings(0, 0, [])]))


def mortal(number: int) -> Callable[[Recordings], None]:
    return die


def die(_: Recordings) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_rehearsal_is_of_the_largest_batch_and_leaves_nothing(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tone_config())
    sums, heard = task.objective.sums, []

    def spied(batch, generator, sizes):
        heard.append([example.id for example in batch.examples])
        assert task.modules.training and torch.is_grad_enabled() and sizes is None
        return sums(batch, generator, sizes)

    monkeypatch.setattr(task.objective, "sums", spied)
    before = {name: value.clone() for name, value in task.modules.state_dict().items()}
    task.rehearse()
    padded = {
        tuple(example.id for example in batch.examples): len(batch.examples)
        * max(example.seconds for example in batch.examples)
        for batch in make_task(tone_config()).batches(0, start=0)
    }
    assert tuple(heard[0]) == max(padded, key=lambda ids: padded[ids]) and len(heard) == 1
    assert all(parameter.grad is None for parameter in task.modules.parameters())
    assert all(torch.equal(value, before[name]) for name, value in task.modules.state_dict().items())


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_memory_that_runs_out_in_the_rehearsal_names_the_utterances(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    task = make_task(tone_config())
    largest = [parts[0] for parts in largest_batch(task.plan(0), task.train_examples)]
    ids = ", ".join(task.train_examples[index].id for index in largest)

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    if where == "forward":
        monkeypatch.setattr(acoustic_loss, "ctc_loss", fail)
    else:
        monkeypatch.setattr(torch.Tensor, "backward", fail)
    with pytest.raises(
        OutOfMemory, match=f"GPU out of memory on a batch of {len(largest)} utterances .{ids}.; lower data"
    ):
        task.rehearse()


def test_what_there_is_to_say_of_ctc_is_said_once(
    tone_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, backends = acoustic_loss.ctc_loss, []

    def chatty(*args, backend, note, **options):
        backends.append(backend)
        note("cuDNN is faster")
        return plain(*args, **options)

    monkeypatch.setattr(acoustic_loss, "ctc_loss", chatty)
    task = make_task(tone_config(ctc_backend="native"))
    task.rehearse()
    first, second, *_ = task.batches(0, start=0)
    said = [task.loss(batch, generator=torch.Generator()).notes for batch in (first, second)]
    assert said == [("cuDNN is faster",), ()]
    assert set(backends) == {"native"}
