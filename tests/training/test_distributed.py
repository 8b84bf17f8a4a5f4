"""Several processes train as one does: the same losses and gradients; what befalls one of them, all agree on.

Processes cost seconds to start, so the tests share three pairs: one that is interrupted, one of which a process is
killed, and one (`together_in_a_pair`) that goes on from there and tries everything else.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr.acoustic.model import AcousticModel
from asr.errors import AsrWarning, ConfigError, DataError
from asr.options import to_json
from asr.processes import WorkerDied
from asr.training import acoustic, acoustic_loss, distributed
from asr.training.acoustic import train_acoustic_model
from asr.training.acoustic_task import AcousticTask, prepare_acoustic_task
from asr.training.batches import Batch
from asr.training.config import AuxiliaryOptions, LoopOptions, TrainingConfig
from asr.training.distributed import PeerLost, agreed, from_first, gather, joined, own, rank, sum_gradients, total
from asr.training.launch import launch
from asr.training.log import read_log
from asr.training.loop import Diverged, Interrupted, fit
from asr.training.run_folder import locked
from asr.training.task import BatchLoss
from tests import tones

STEP = 5  # the one in which a process is told to stop


def losses(folder: Path, figure: str = "loss") -> list[float]:
    return [record[figure] for record in read_log(folder) if record["kind"] == "step"]


def epochs(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(folder) if record["kind"] == "epoch"]


def steady(corpus: Path) -> TrainingConfig:
    """Nothing random that processes do not share: 21 steps with masks, phones too, and no dropout."""
    auxiliary = AuxiliaryOptions(lexicon=str(corpus / "lexicon.txt"), layer=1, weight=0.3)
    return tones.make_config(corpus, epochs=3, learning_rate=2e-3, auxiliary=auxiliary)


def with_dropout(corpus: Path) -> TrainingConfig:
    config = tones.make_config(corpus, epochs=4)
    return replace(config, encoder=replace(config.encoder, dropout=0.3))


def crowded(corpus: Path) -> TrainingConfig:
    """Batches of one or two utterances."""
    config = tones.make_config(corpus, epochs=1, learning_rate=2e-3)
    return replace(config, data=replace(config.data, batch_seconds=3.0, max_seconds=3.0))


def first_batch(corpus: Path) -> tuple[AcousticTask, Batch]:
    """A task, always of the same weights, and this process's rows of its first batch."""
    torch.manual_seed(0)
    task = prepare_acoustic_task(steady(corpus), device=torch.device("cpu"), note=lambda _: None)
    batches = task.batches(0, start=0)
    batch = next(batches)
    batches.close()  # type: ignore[attr-defined]
    return task, batch


def gradients_of(task: AcousticTask, batch: Batch) -> dict[str, torch.Tensor]:
    task.modules.zero_grad()
    task.loss(batch, generator=torch.Generator().manual_seed(1)).loss.backward()
    sum_gradients(task.modules.parameters())
    return {name: parameter.grad for name, parameter in task.modules.named_parameters() if parameter.grad is not None}


def gradients(corpus: Path) -> dict[str, torch.Tensor]:
    """Those of the first batch."""
    return gradients_of(*first_batch(corpus))


class Toy:
    """A weight whose loss is what stands for this process at each step; None: an utterance without alignment."""

    criterion = "wer"
    learning_rates = {}  # noqa: RUF012
    waiting_remedy = ": see --workers"
    data_digest = ""

    def __init__(self, *values: tuple[float | None, ...]):
        self.modules = torch.nn.ModuleDict({"model": torch.nn.Linear(1, 1, bias=False)})
        torch.nn.init.ones_(self.modules["model"].weight)
        self.values = values

    def num_batches(self, epoch):
        return len(self.values)

    def batches(self, epoch, *, start):
        yield from self.values[start:]

    def loss(self, batch, *, generator):
        value = batch[rank()]
        loss = self.modules["model"].weight.sum() * (value or 0.0)
        skipped = (f"u{rank()}",) if value is None else ()
        return BatchLoss(loss=loss, figures={"loss": loss.item()}, skipped=skipped, ids=(f"u{rank()}",))

    def evaluate(self):
        return {"wer": 1.0, "loss": 1.0}


# The third pair. What its processes find out, each leaves in a file for the tests to look at.


def try_everything(corpus: Path, folder: Path, *, note: Callable[[str], None]) -> None:
    acoustic.draw_curve = lambda folder: None  # which takes longer than the epoch
    found: dict[str, Any] = {}
    nan = float("nan")
    options = LoopOptions(epochs=1, warmup_epochs=0.0, patience_steps=3)
    if rank() == 0:
        warnings.warn(AsrWarning("a warning"), stacklevel=1)
        note("a note")
    with joined("cpu") as device:
        found["device"] = device
        found["own"] = own(range(5))
        found["total"] = total(rank() + 1, 0.5)
        found["agreed"] = agreed(rank() == 1, False)
        found["gathered"] = gather({"rank": rank()})
        found["from first"] = from_first(lambda: f"of {rank()}")
        found["raised"] = caught(lambda: from_first(lambda: locked(Path("/dev/null/x")).__enter__()))

        train = train_acoustic_model
        train(with_dropout(corpus), folder / "ended", device="cpu", note=note)
        train(with_dropout(corpus), folder / "whole", device="cpu", note=note)
        train(steady(corpus), folder / "steady", device="cpu", note=note)
        train(crowded(corpus), folder / "crowded", device="cpu", note=note)
        found["gradients"] = gradients(corpus)

        unused = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(3))]
        if rank() == 1:
            unused[1].grad = torch.full((3,), 7.0)
        sum_gradients(unused)
        found["unused"] = [parameter.grad for parameter in unused]

        plain = AcousticTask.loss
        AcousticTask.loss = stopped_at(STEP, plain)  # type: ignore[method-assign]
        found["stopped"] = caught(lambda: train(steady(corpus), folder / "stopped", device="cpu", note=note))
        AcousticTask.loss = plain  # type: ignore[method-assign]

        for name, task in {
            "strange": Toy((1.0, 1.0), (1.0, nan), (1.0, None), (1.0, 1.0)),
            "diverged": Toy(*[(nan, 1.0)] * 4),
        }.items():
            notes: list[str] = []
            found[name] = caught(partial(fit, task, options, folder / name, note=notes.append))
            found[f"{name} notes"] = notes
            found[f"{name} weight"] = task.modules["model"].weight.item()
        torch.save(found, folder / f"found-{rank()}")
        if rank() == 1:
            raise ZeroDivisionError("a fault")
        gather("nobody answers")


def caught(function: Callable[[], Any]) -> tuple[str, str]:
    try:
        function()
    except Exception as error:
        return type(error).__name__, str(error)
    return "nothing", ""


def stopped_at(step: int, plain: Callable[..., BatchLoss]) -> Callable[..., BatchLoss]:
    """The loss, in whose n-th call process 1 alone gets the signal to stop."""
    calls = []

    def loss(task: AcousticTask, batch: Any, **options: Any) -> BatchLoss:
        calls.append(batch)
        if len(calls) == step and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(task, batch, **options)

    return loss


# The pairs, and what came of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def an_interrupted_pair(tone_corpus: Path, folder: Path) -> SimpleNamespace:
    """Ctrl-C, which a terminal sends to all processes, after the first epoch."""
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        if sentence.startswith("epoch 1"):
            for process in multiprocessing.active_children():
                os.kill(process.pid or 0, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as raised:
        train_acoustic_model(with_dropout(tone_corpus), folder / "ended", device="cpu", note=note, processes=2)
    return SimpleNamespace(notes=notes, error=raised.value, steps=len(losses(folder / "ended")))


@pytest.fixture(scope="module")
def a_killed_pair(tone_corpus: Path, folder: Path, an_interrupted_pair: SimpleNamespace) -> SimpleNamespace:
    """SIGKILL for one process, after the second epoch."""
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        if sentence.startswith("epoch 2"):
            (second,) = (p for p in multiprocessing.active_children() if p.name == "process 2 of 2")
            second.kill()

    with pytest.raises(WorkerDied) as raised:
        train_acoustic_model(with_dropout(tone_corpus), folder / "ended", device="cpu", note=note, processes=2)
    return SimpleNamespace(notes=notes, error=raised.value, steps=len(losses(folder / "ended")))


@pytest.fixture(scope="module")
def together_in_a_pair(tone_corpus: Path, folder: Path, a_killed_pair: SimpleNamespace) -> SimpleNamespace:
    notes: list[str] = []
    with pytest.warns(AsrWarning, match="a warning"), pytest.raises(RuntimeError) as raised:
        launch(try_everything, tone_corpus, folder, processes=2, note=notes.append)
    found = [torch.load(folder / f"found-{number}", weights_only=False) for number in (0, 1)]
    return SimpleNamespace(notes=notes, error=raised.value, found=found)


@pytest.fixture(scope="module")
def alone(tone_corpus: Path, folder: Path, together_in_a_pair: SimpleNamespace) -> Path:
    """Trainings of one process, in folders of these names; the last one goes on with one that a pair began."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acoustic, "draw_curve", lambda folder: None)
        for name, config in (("alone", steady), ("alone-crowded", crowded), ("stopped", steady)):
            train_acoustic_model(config(tone_corpus), folder / name, device="cpu", note=lambda _: None)
    return folder


def test_ctrl_c_saves_one_checkpoint_and_is_told_in_one_sentence(an_interrupted_pair: SimpleNamespace) -> None:
    assert str(an_interrupted_pair.error).startswith("stopped ")
    assert str(an_interrupted_pair.error).endswith("; the same command resumes from here")
    assert any(note.endswith(" in 2 processes") for note in an_interrupted_pair.notes)
    assert len(set(an_interrupted_pair.notes)) == len(an_interrupted_pair.notes)  # one of the two speaks


def test_a_killed_process_is_named_and_the_others_end(
    an_interrupted_pair: SimpleNamespace, a_killed_pair: SimpleNamespace
) -> None:
    assert str(a_killed_pair.error) == (
        "process 2 of 2 was killed by SIGKILL (by the system, if memory ran out); "
        "the same command resumes from the last checkpoint"
    )
    assert any(note.startswith(f"resuming after step {an_interrupted_pair.steps}, ") for note in a_killed_pair.notes)
    assert multiprocessing.active_children() == []


def test_what_was_interrupted_and_killed_equals_what_was_not_loss_for_loss(
    folder: Path, together_in_a_pair: SimpleNamespace
) -> None:
    assert losses(folder / "ended") == losses(folder / "whole")
    assert epochs(folder / "ended") == epochs(folder / "whole") != []
    ended, whole = (AcousticModel.load(folder / name / "model").state_dict() for name in ("ended", "whole"))
    assert all(torch.equal(ended[name], whole[name]) for name in whole)
    assert [path for path in (folder / "ended").rglob("*") if ".tmp" in path.name] == []


@pytest.mark.parametrize(
    ("figure", "tolerance"), [("loss", 1e-5), ("phone_loss", 1e-5), ("rate", 0.0), ("gradient_norm", 1e-4)]
)
def test_two_processes_have_the_losses_of_one(alone: Path, figure: str, tolerance: float) -> None:
    """Also in batches none of whose utterances has phones; processors round differently, by 2e-7 or 1e-6."""
    assert len(losses(alone / "alone")) >= 20
    assert 0.0 in losses(alone / "alone", "phone_loss")
    assert losses(alone / "steady", figure) == pytest.approx(losses(alone / "alone", figure), rel=tolerance)


def test_two_processes_have_the_dev_figures_of_one(alone: Path) -> None:
    for pair, one in zip(epochs(alone / "steady"), epochs(alone / "alone"), strict=True):
        assert [pair[name] for name in ("wer", "cer", "step")] == [one[name] for name in ("wer", "cer", "step")]
        assert pair["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.fixture
def exact_terms(tone_corpus: Path) -> list[dict[str, torch.Tensor]]:
    """What each utterance of the first batch, alone and in float64, adds to the batch's gradients."""
    task, batch = first_batch(tone_corpus)
    task.model.encoder.double()
    task.model.frontend.register_forward_hook(lambda _module, _given, made: (made[0].double(), made[1]))
    characters = float(sum(len(example.labels) for example in batch.examples))
    terms = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acoustic_loss, "total", lambda *_: [characters, 0.0, 1.0])  # the batch's: nobody in it has phones
        patch.setattr(torch.Tensor, "float", lambda values: values)  # so that the logits stay in float64
        for row in (slice(number, number + 1) for number in range(len(batch.examples))):
            lengths = batch.lengths[row]
            waveforms = batch.inputs[row, : int(lengths)]
            terms.append(gradients_of(task, Batch(examples=batch.examples[row], inputs=waveforms, lengths=lengths)))
    return terms


def test_two_processes_have_the_gradients_of_one(
    tone_corpus: Path, together_in_a_pair: SimpleNamespace, exact_terms: list[dict[str, torch.Tensor]]
) -> None:
    """Both are within what float32 may lose, which is far less than what any utterance adds.

    What n roundings in a row have made is within n u of its size, u = 2^-24, a sum of such terms within n u Σ |term|
    (Higham 2002, "Accuracy and stability of numerical algorithms", sections 3.1 and 4.2). Sizes are norms of a weight's
    gradient, terms are utterances. Their longest row of roundings goes there and back through the frames of both
    layers, each frame a sum of as many products as there are inputs and hidden values and 8 operations at the gates,
    and there and back through those of the loss, each 3 operations with logarithms as large as the loss itself, about
    T ln V of a new model; it ends in the sum over frames and utterances. Later steps do not amplify what earlier ones
    lost while the weights are new: recurrent ones are below 1 / sqrt(hidden), and the gates' slopes at most 1/4.
    """
    frames, inputs, hidden, labels = 148, 40, 32, 5  # of the longest utterance; the second layer has half as many
    layers = frames * (inputs + hidden + 8) + frames // 2 * (hidden + hidden + 8)
    loss = frames // 2 * 3 * (frames // 2 * math.log(labels))
    most_roundings = 2 * (layers + loss) + frames * len(exact_terms)
    one = gradients(tone_corpus)
    for found in (one, *(each["gradients"] for each in together_in_a_pair.found)):
        assert found.keys() == one.keys() == exact_terms[0].keys()
        for name, gradient in found.items():
            terms = torch.stack([term[name] for term in exact_terms])
            sizes = terms.flatten(1).norm(dim=1)
            bound = most_roundings * 2.0**-24 * sizes.sum()
            assert terms.dtype == torch.float64
            assert (gradient - terms.sum(dim=0)).norm() <= bound < sizes.min() / 10, name


def test_processes_without_a_row_take_part(alone: Path, tone_corpus: Path) -> None:
    task = prepare_acoustic_task(crowded(tone_corpus), device=torch.device("cpu"), note=lambda _: None)
    assert min(len(batch) for batch in chain.from_iterable(task.plan(0))) == 1
    assert losses(alone / "crowded") == pytest.approx(losses(alone / "alone-crowded"), rel=1e-5)


def test_a_signal_to_one_stops_all_after_the_same_step(
    folder: Path, together_in_a_pair: SimpleNamespace, alone: Path
) -> None:
    """And one process goes on with it as two would have."""
    for found in together_in_a_pair.found:
        assert found["stopped"] == ("Interrupted", "stopped in epoch 1; the same command resumes from here")
    assert losses(alone / "stopped")[:STEP] == losses(alone / "steady")[:STEP]
    assert losses(alone / "stopped") == pytest.approx(losses(alone / "steady"), rel=1e-5)


def test_a_loss_that_is_not_finite_in_one_is_skipped_by_all(together_in_a_pair: SimpleNamespace) -> None:
    first, second = together_in_a_pair.found
    assert first["strange notes"][0] == (
        "step 2: loss or gradient not finite, step skipped; the batch had u0, u1 (1 skipped so far)"
    )
    assert first["strange weight"] == second["strange weight"] < 1.0
    assert first["diverged"] == second["diverged"]
    assert first["diverged"][0] == Diverged.__name__ and first["diverged weight"] == 1.0


def test_an_impossible_utterance_of_one_is_named_once(together_in_a_pair: SimpleNamespace) -> None:
    named = [note for note in together_in_a_pair.found[0]["strange notes"] if "no alignment" in note]
    assert named == ["step 3: no alignment, so left out: u1"]


def test_what_processes_tell_each_other(together_in_a_pair: SimpleNamespace) -> None:
    first, second = together_in_a_pair.found
    assert (list(first["own"]), list(second["own"])) == ([0, 2, 4], [1, 3])
    for found in (first, second):
        assert found["device"] == torch.device("cpu")
        assert found["total"] == [3.0, 1.0]
        assert found["agreed"] == [True, False]
        assert found["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert found["from first"] == "of 0"
        assert found["raised"][0] == NotADirectoryError.__name__
        assert found["unused"][0] is None and found["unused"][1].tolist() == [7.0] * 3


def test_notes_come_out_and_a_fault_with_its_traceback(together_in_a_pair: SimpleNamespace) -> None:
    """The other process found nobody to talk to, which is not what is told."""
    assert together_in_a_pair.notes[0] == "a note"
    assert str(together_in_a_pair.error).startswith("process 2 of 2 failed\nTraceback")
    assert "ZeroDivisionError: a fault" in str(together_in_a_pair.error)


# One process


def test_alone_one_gets_back_what_one_gave() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    sum_gradients([parameter])
    assert parameter.grad is None
    assert (total(1, 2.5), agreed(True, False), gather("x"), from_first(lambda: 3)) == (
        [1, 2.5],
        [True, False],
        ["x"],
        3,
    )
    assert own([1, 2, 3]) == [1, 2, 3]
    with joined("cpu") as device:
        assert device == torch.device("cpu")


def test_an_error_keeps_its_kind_and_place_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(DataError("no such manifest", path="a.jsonl", line=3)))
    assert (type(error), str(error), error.line) == (DataError, "a.jsonl:3: no such manifest", 3)


def test_processes_do_not_start_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tone_corpus: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one of several processes already, so it must not start 3 more"):
        train_acoustic_model(with_dropout(tone_corpus), tmp_path, device="cpu", processes=3)


def test_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "find_device", torch.device)
    with (
        pytest.raises(ConfigError, match="2 processes need a GPU each: device must be cuda or auto, not 'cuda:1'"),
        joined("cuda:1"),
    ):
        pass


def test_a_lost_connection_is_told_in_a_sentence() -> None:
    with pytest.raises(PeerLost, match="another process of this training has ended"), distributed._peers():
        raise RuntimeError("Connection closed by peer")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
def test_torchrun_restarts_what_was_killed(tone_corpus: Path, tmp_path: Path) -> None:
    """The log equals that of the pair which nobody killed."""
    (tmp_path / "config.json").write_text(json.dumps(to_json(with_dropout(tone_corpus))))

    def torchrun(run: str) -> subprocess.Popen[bytes]:
        command = "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 1 -m asr.cli.train --"
        arguments = f"--run {tmp_path / run} --config {tmp_path / 'config.json'} --device cpu --quiet".split()
        environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see docs/training.md
        return subprocess.Popen([sys.executable, *command.split(), *arguments], env=environment)

    assert torchrun("whole").wait() == 0
    process = torchrun("killed")
    while not (tmp_path / "killed" / "log.jsonl").exists() or len(epochs(tmp_path / "killed")) < 2:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert process.wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
