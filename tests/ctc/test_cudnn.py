"""The batch that cuDNN gets has the losses and gradients of the one that came; on the CPU another kernel stands in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from asr.ctc import cudnn, loss
from asr.ctc.collapse import minimum_frames
from asr.ctc.cudnn import NEVER, frames_needed, obstacle
from asr.ctc.loss import ctc_loss
from asr.errors import AsrWarning, InputError

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# input length, target
RAGGED = [
    (20, [1, 2, 3]),
    (13, [4, 4, 4, 1]),
    (20, []),
    (7, []),
    (5, [1, 1, 2, 1]),  # just fits
    (4, [1, 1, 2, 1]),  # does not
    (2, [1, 2, 3]),  # more labels than frames
    (0, []),
    (0, [2]),
    (1, [3]),
]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1729)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """cuDNN's place on the CPU, taken by a kernel that wants what PyTorch and cuDNN want; the emissions it got."""
    seen = []

    def kernel(emissions: Tensor, labels: Tensor, input_lengths: list[int], target_lengths: list[int]) -> Tensor:
        seen.append(emissions.detach())
        assert labels.dtype == torch.int32 and labels.device.type == "cpu" and labels.is_contiguous()
        assert input_lengths == [emissions.shape[1]] * emissions.shape[0]
        assert all(0 < length < 256 for length in target_lengths) and sum(target_lengths) == len(labels)
        assert not emissions.isinf().any()
        rows = labels.split(target_lengths)
        assert all(minimum_frames(row.tolist()) <= emissions.shape[1] for row in rows)
        lengths = torch.tensor(input_lengths), torch.tensor(target_lengths)
        return torch.nn.functional.ctc_loss(emissions.transpose(0, 1), labels.long(), *lengths, reduction="none")

    monkeypatch.setattr(cudnn, "obstacle", lambda *_, **__: "")
    monkeypatch.setattr(loss, "_cudnn_kernel", kernel)
    return seen


def batch_of(
    rows: list[tuple[int, list[int]]], generator: torch.Generator, *, num_labels: int = 5, dtype=torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels and lengths; what lies past an utterance's length is not a number."""
    frames = max(length for length, _ in rows)
    logits = 3 * torch.randn(len(rows), frames, num_labels, generator=generator, dtype=dtype)
    for row, (length, _) in zip(logits, rows, strict=True):
        row[length:] = math.nan
    labels = torch.tensor([label for _, target in rows for label in target], dtype=torch.int64)
    input_lengths = torch.tensor([length for length, _ in rows])
    return logits, labels, input_lengths, torch.tensor([len(target) for _, target in rows])


def losses_and_gradients(batch: tuple[Tensor, ...], *, device: str = "cpu", **options) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, and the gradients of their weighted sum for log_probs and for logits, on the CPU in float64."""
    logits, *rest = batch
    logits = logits.clone().to(device).requires_grad_()
    log_probs = logits.log_softmax(-1)
    log_probs.retain_grad()
    losses = ctc_loss(log_probs, *rest, blank=0, **options)
    weights = torch.arange(1.0, len(losses) + 1, device=device)
    (weights * losses)[losses.isfinite()].sum().backward()
    # log_softmax spreads the NaN past the lengths, which nobody looks at.
    return tuple(t.detach().cpu().double() for t in (losses, log_probs.grad, logits.grad.nan_to_num()))


# Any batch made fit for cuDNN


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_ragged_batch_has_the_losses_and_gradients_of_the_native_kernel(generator, stand_in, dtype):
    """Within what rounding may do: each of T additions may be off by half an epsilon of a loss, the last weighs 10."""
    batch = batch_of(RAGGED, generator, dtype=dtype)
    expected = losses_and_gradients(batch, backend="native")
    found = losses_and_gradients(batch, backend="cudnn")
    assert found[0].isinf().tolist() == [False] * 5 + [True, True, False, True, False]
    nats = float(expected[0][expected[0].isfinite()].max())
    tolerance = 10 * batch[0].shape[1] * torch.finfo(dtype).eps / 2 * nats
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    (emissions,) = stand_in
    assert (emissions.exp().sum(-1) - 1).abs().max() < 1e-5  # also the frames that were put in


def test_an_utterance_may_cost_more_than_any_constant(generator, stand_in):
    """A loss of 80,000 nats, of which no part is to be had cheaper in the frames that are put in."""
    batch = batch_of([(2500, [1] * 200), (2000, [1, 2] * 100)], generator)
    batch[0][...] *= 30.0
    expected = losses_and_gradients(batch, backend="native")
    assert expected[0].min() > 8e4
    for one, other in zip(losses_and_gradients(batch, backend="cudnn"), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_equal_lengths_are_not_lengthened(generator, stand_in):
    batch = batch_of([(9, [1, 2]), (9, [3])], generator)
    losses_and_gradients(batch, backend="cudnn")
    torch.testing.assert_close(stand_in[0], batch[0].log_softmax(-1), rtol=0, atol=0)


def test_a_probability_of_zero_is_no_alignment_where_all_need_it(generator, stand_in):
    logits, *rest = batch_of([(6, [1, 2]), (5, [1, 2]), (4, []), (6, [3])], generator)
    log_probs = logits.log_softmax(-1)
    log_probs[0, :, 2] = log_probs[2, 1, 0] = log_probs[3, 2, 3] = -math.inf
    results = []
    for backend in ("native", "cudnn"):
        leaf = log_probs.clone().requires_grad_()
        losses = ctc_loss(leaf, *rest, blank=0, backend=backend)
        losses.sum().backward()
        results.append((losses.detach(), leaf.grad))
    assert results[0][0].isinf().tolist() == [True, False, True, False]
    assert results[0][1][3, 2, 3] == 0  # the limit, of ever smaller probabilities
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_nan_stays_in_its_utterance(generator, stand_in):
    logits, *rest = batch_of([(6, [1, 2]), (5, [1, 2]), (5, [])], generator)
    log_probs = logits.log_softmax(-1)
    log_probs[0, 3, 4] = log_probs[2, 1, 3] = math.nan  # of labels that the targets lack
    log_probs.requires_grad_()
    losses = ctc_loss(log_probs, *rest, blank=0, backend="cudnn")
    assert losses.isnan().tolist() == [True, False, True]
    losses.sum().backward()
    assert (log_probs.grad[[0, 2]] == 0).all()
    assert log_probs.grad[1].isfinite().all() and log_probs.grad[1].abs().sum() > 0


def test_frames_needed_are_those_of_each_target(generator):
    targets = [torch.randint(1, 3, (length,), generator=generator).tolist() for length in (4, 0, 1, 9, 0, 3)]
    lengths = torch.tensor([len(target) for target in targets])
    labels = torch.tensor([label for target in targets for label in target])
    assert frames_needed(labels, lengths).tolist() == [minimum_frames(target) for target in targets]
    assert frames_needed(labels[:0], lengths[:0]).tolist() == []


def test_what_never_happens_can_be_summed():
    assert (torch.full((100_000,), NEVER).sum()).isfinite() and math.exp(NEVER) == 0.0


# What is chosen, and what is said of it


@pytest.mark.parametrize(
    ("change", "setting", "expected"),
    [
        ({}, {}, ""),
        ({"target_lengths": torch.tensor([255, 0])}, {}, ""),
        ({"target_lengths": torch.tensor([0, 256])}, {}, "targets must have fewer than 256 labels"),
        ({"device": torch.device("cpu")}, {}, "log_probs must be on a CUDA device, not on cpu"),
        ({"dtype": torch.float64}, {}, "log_probs must be float32, not torch.float64"),
        ({"blank": 4}, {}, "the blank must be label 0, not 4"),
        ({"shape": (2, 3, 1)}, {}, "there must be a label beside the blank"),
        ({}, {"torch.version.hip": "6.0"}, "log_probs must be on a CUDA device, not on cuda:0 of ROCm"),
        ({}, {"torch.backends.cudnn.enabled": False}, "torch.backends.cudnn.enabled must be True"),
        ({}, {"torch.backends.cudnn.is_available": lambda: False}, "this PyTorch was built without cuDNN"),
    ],
)
def test_each_condition_has_its_sentence(monkeypatch, change, setting, expected):
    monkeypatch.setattr("torch.backends.cudnn.is_available", lambda: True)
    for name, value in setting.items():
        monkeypatch.setattr(name, value)
    facts = {"device": torch.device("cuda:0"), "dtype": torch.float32, "shape": (2, 3, 5), **change}
    target_lengths, blank = facts.pop("target_lengths", torch.tensor([1, 2])), facts.pop("blank", 0)
    assert obstacle(SimpleNamespace(**facts), target_lengths, blank=blank) == expected


def test_cudnn_that_cannot_be_had_is_an_error_that_says_why(generator):
    batch = batch_of([(5, [1])], generator)
    with pytest.raises(
        InputError, match="backend 'cudnn' cannot take this batch: log_probs must be on a CUDA device, not on c"
    ):
        ctc_loss(batch[0].log_softmax(-1), *batch[1:], blank=0, backend="cudnn")


def test_an_unknown_backend_is_refused(generator):
    batch = batch_of([(5, [1])], generator)
    with pytest.raises(InputError, match="backend must be one of auto, native, cudnn, not 'warp'"):
        ctc_loss(batch[0].log_softmax(-1), *batch[1:], blank=0, backend="warp")


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> tuple[SimpleNamespace, None, None, Tensor]:
    """A batch that says it is on CUDA, where each implementation gives its name and takes the time that is its."""
    seconds = {"native": 0.003, "cudnn": 0.002}
    for name in ("native", "on_cpu", "in_cudnn"):
        monkeypatch.setattr(loss, f"_{name}", lambda *_, name=name, **__: name)
    monkeypatch.setattr(loss, "_seconds", lambda kernel, _: seconds["cudnn" if kernel() == "in_cudnn" else "native"])
    monkeypatch.setattr(cudnn, "obstacle", lambda *_, **__: "")
    monkeypatch.setattr(loss, "_faster", {})
    emissions = SimpleNamespace(is_cuda=True, device=torch.device("cuda:0"), shape=(12, 300, 29))
    return emissions, None, None, torch.tensor([40, 3]), seconds


def test_auto_takes_the_faster_one_and_measures_a_size_once(on_cuda):
    *batch, seconds = on_cuda
    notes: list[str] = []
    assert loss._chosen(batch, blank=0, backend="auto", note=notes.append) == "in_cudnn"
    assert notes == [
        "CTC for up to 16 x 512 frames, 32 labels and targets of 64 runs in cudnn: native 3 ms, cudnn 2 ms"
    ]
    seconds["cudnn"] = 0.004
    assert loss._chosen(batch, blank=0, backend="auto", note=notes.append) == "in_cudnn"
    assert notes == notes[:1] * 2  # the same
    batch[0].shape = (12, 600, 29)
    assert loss._chosen(batch, blank=0, backend="auto", note=None) == "native"
    assert loss._chosen(batch, blank=0, backend="cudnn", note=None) == "in_cudnn"


def test_auto_falls_back_and_says_so(on_cuda, monkeypatch):
    *batch, _ = on_cuda
    monkeypatch.setattr(cudnn, "obstacle", lambda *_, **__: "the reason")
    notes: list[str] = []
    assert loss._chosen(batch, blank=0, backend="auto", note=notes.append) == "native"
    assert notes == ["CTC does not run in cuDNN: the reason"]
    with pytest.warns(AsrWarning, match="CTC does not run in cuDNN: the reason"):
        loss._chosen(batch, blank=0, backend="auto", note=None)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_of_deterministic_algorithms_cudnn_comes_first_and_the_cpu_second(on_cuda, monkeypatch, deterministic):
    *batch, seconds = on_cuda
    seconds["cudnn"] = 0.004
    assert loss._chosen(batch, blank=0, backend="auto", note=None) == "in_cudnn"
    monkeypatch.setattr(cudnn, "obstacle", lambda *_, **__: "the reason")
    assert loss._chosen(batch, blank=0, backend="auto", note=lambda _: None) == "on_cpu"


def test_a_trial_takes_gradients_where_there_are_none_otherwise(generator):
    """In inference mode, as on a dev set; and leaves the batch as it was."""
    with torch.inference_mode():
        logits, *rest = batch_of([(9, [1, 2]), (9, [3])], generator)
        assert 0 < loss._seconds(lambda *batch: loss._native(*batch, blank=0), (logits.log_softmax(-1), *rest)) < 10
        assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled()


# In float32, on the CPU and on a GPU

LOST_PER_NAT = 5e-6  # PyTorch's kernel of the CPU loses up to 2.6e-6


def close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Losses to 1e-4 of each, gradients to 1e-4 of the largest of their utterance and what float32 cannot hold.

    A posterior is the exponential of a difference of numbers as large as the loss, of which float32 has seven digits.
    """
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    for one, other in zip(found[1:], expected[1:], strict=True):
        for row, reference, nats in zip(one, other, expected[0].tolist(), strict=True):
            share = 1e-4 + (LOST_PER_NAT * nats if math.isfinite(nats) else 0.0)
            torch.testing.assert_close(row, reference, rtol=0, atol=share * max(1.0, float(reference.abs().max())))


def random_rows(
    generator: torch.Generator, *, size: int, frames: int, longest: int, num_labels: int
) -> list[tuple[int, list[int]]]:
    """Utterances of many lengths; the first has all frames."""
    rows = []
    for number in range(size):
        length = frames if number == 0 else int(torch.randint(frames // 2, frames + 1, (1,), generator=generator))
        count = int(torch.randint(0, longest + 1, (1,), generator=generator))
        rows.append((length, torch.randint(1, num_labels, (count,), generator=generator).tolist()))
    return rows


def favour(logits: Tensor, rows: list[tuple[int, list[int]]]) -> None:
    """Makes one path likely, as a model does that has learnt it: labels evenly apart, Φ between where there is room."""
    for row, (length, target) in zip(logits, rows, strict=True):
        if not length:
            continue
        path = torch.zeros(length, dtype=torch.int64)
        for number, label in enumerate(target):
            path[(2 * number + 1) * length // (2 * len(target))] = label
        row[torch.arange(length), path] += 12.0


@pytest.fixture(
    params=[
        (0, 0, 0, 5),
        (16, 100, 10, 29),
        (64, 500, 60, 29),
        (4, 2500, 200, 29),
        (3, 2100, 255, 1000),
        (256, 100, 10, 5),
    ],
    ids=lambda sizes: "x".join(map(str, sizes)) if sizes[0] else "ragged",
)
def sizes(request: pytest.FixtureRequest) -> tuple[int, int, int, int]:
    return request.param


@pytest.fixture(params=["unlearnt", "learnt"])
def float_batch(
    request: pytest.FixtureRequest, sizes: tuple[int, int, int, int], generator: torch.Generator
) -> tuple[Tensor, ...]:
    size, frames, longest, num_labels = sizes
    rows = random_rows(generator, size=size, frames=frames, longest=longest, num_labels=num_labels) if size else RAGGED
    batch = batch_of(rows, generator, num_labels=num_labels, dtype=torch.float32)
    if request.param == "learnt":
        favour(batch[0], rows)
    return batch


def in_float64(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return losses_and_gradients((batch[0].double(), *batch[1:]), backend="native")


@pytest.mark.parametrize("backend", ["native", "cudnn"])
def test_float32_of_the_cpu_is_as_close_as_a_gpu_should_be(float_batch, stand_in, backend):
    expected = in_float64(float_batch)
    close(losses_and_gradients(float_batch, backend=backend), expected)


@pytest.mark.gpu
@needs_cuda
def test_cudnn_and_native_cuda_equal_the_cpu_in_float64(float_batch):
    expected = in_float64(float_batch)
    with torch.profiler.profile() as profile:
        found = losses_and_gradients(float_batch, device="cuda", backend="cudnn")
    assert "aten::_cudnn_ctc_loss" in {event.key for event in profile.key_averages()}
    close(found, expected)
    close(losses_and_gradients(float_batch, device="cuda", backend="native"), expected)


@pytest.mark.gpu
@needs_cuda
def test_cudnn_keeps_nan_and_zero_probabilities_in_their_utterances(generator):
    logits, *rest = batch_of([(30, [1, 2]), (25, [1, 2]), (20, []), (30, [3])], generator, dtype=torch.float32)
    log_probs = logits.log_softmax(-1)
    log_probs[0, 3, 4] = math.nan
    log_probs[3, :, 3] = -math.inf
    results = []
    for device, backend in (("cpu", "native"), ("cuda", "cudnn")):
        leaf = log_probs.detach().to(device).clone().requires_grad_()
        losses = ctc_loss(leaf, *rest, blank=0, backend=backend)
        losses[losses.isfinite()].sum().backward()
        results.append((losses.detach().cpu(), leaf.grad.cpu()))
    assert results[1][0].isnan().tolist() == [True, False, False, False] and results[1][0][3] == math.inf
    torch.testing.assert_close(results[1][0][1:], results[0][0][1:], rtol=1e-4, atol=1e-4)
    # In the first, NaN is that of a label that its target lacks: the native kernel does not look there.
    assert (results[1][1][0] == 0).all()
    torch.testing.assert_close(results[1][1][1:], results[0][1][1:], rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
def test_long_targets_fall_back_with_a_warning_or_are_refused(generator):
    batch = batch_of([(700, [1, 2] * 128), (650, [3])], generator, dtype=torch.float32)
    expected = in_float64(batch)
    with pytest.warns(AsrWarning, match="CTC does not run in cuDNN: targets must have fewer than 256 labels"):
        close(losses_and_gradients(batch, device="cuda"), expected)
    with pytest.raises(
        InputError, match="backend 'cudnn' cannot take this batch: targets must have fewer than 256 labels"
    ):
        losses_and_gradients(batch, device="cuda", backend="cudnn")


@pytest.mark.gpu
@needs_cuda
def test_auto_measures_on_the_gpu_and_says_what_ran(generator, monkeypatch):
    monkeypatch.setattr(loss, "_faster", {})
    batch = batch_of(random_rows(generator, size=16, frames=200, longest=30, num_labels=29), generator, num_labels=29)
    batch = (batch[0].float(), *batch[1:])
    notes: list[str] = []
    found = losses_and_gradients(batch, device="cuda", note=notes.append)
    close(found, in_float64(batch))
    assert len(notes) == 1 and notes[0].startswith("CTC for up to 16 x 256 frames, 32 labels and targets of ")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("longest", [60, 300])
def test_deterministic_algorithms_give_the_same_twice(generator, deterministic, longest):
    """In cuDNN, and of long targets on the CPU."""
    rows = random_rows(generator, size=32, frames=700, longest=longest, num_labels=29)
    rows[0] = (700, [1, 2] * (longest // 2))
    batch = batch_of(rows, generator, num_labels=29, dtype=torch.float32)
    once, again = (losses_and_gradients(batch, device="cuda", note=lambda _: None) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
