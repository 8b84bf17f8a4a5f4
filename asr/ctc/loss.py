"""The CTC loss of each utterance of a batch, on the CPU or a CUDA device."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from asr.ctc import cudnn
from asr.errors import AsrWarning, InputError

Backend = Literal["auto", "native", "cudnn"]
Note: TypeAlias = Callable[[str], None]
Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
CheckedBatch: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # log_probs, labels, input_lengths, target_lengths
Integers: TypeAlias = Tensor | np.ndarray | Sequence[int] | int

_LARGE = 1e5  # nats: from here on, float32 is coarser than a hundredth of a nat
_FLOOR = -1e9  # where float64 is exact to a ten-millionth

# The faster backend for `auto`, by device and by utterances, frames, labels and longest target to powers of two.
_faster: dict[tuple[torch.device | int, ...], tuple[Backend, str]] = {}


def ctc_loss(
    log_probs: Tensor,
    targets: Integers | Sequence[Sequence[int]],
    input_lengths: Integers,
    target_lengths: Integers,
    *,
    blank: int,
    backend: Backend = "auto",
    note: Note | None = None,
) -> Tensor:
    """Negative log-likelihood of each utterance's target, in nats, summed over all its alignments.

        loss[b] = -ln Σ_{π : collapse(π) = targets[b]} Π_{t < input_lengths[b]} p[b, t, π_t]

    Nothing is reduced, averaged or dropped. A target without an alignment (fewer frames than `minimum_frames`, or a
    probability of zero on every path) has an infinite loss and a gradient of exactly zero, and does not affect other
    utterances. So a trainer can report such utterances and continue:

        losses = ctc_loss(...)
        losses[losses.isfinite()].sum().backward()

    A NaN in an utterance's frames gives it a NaN loss, also with a gradient of zero; but log_softmax and the layers
    before it spread a NaN into the gradients of the weights anyway: skip such a batch.

    The gradient is made for log_softmax: exp(log_probs) minus the posterior of each label. It equals the derivative
    with respect to the logits, but only for log_probs that come from log_softmax. Frames past input_lengths[b] have a
    gradient of zero, whatever they hold.

    A log-probability of -1e30 or less is a probability of zero. The gradient of a loss above 1e5, of a target that the
    model considers almost impossible, is computed in float64, because float32 cannot distinguish such paths.

    On CUDA there are two implementations, which differ in their last bits. PyTorch's own adds up gradients in any
    order, so they also differ from run to run. cuDNN's is deterministic, but takes only float32, Φ as label 0 and
    targets of fewer than 256 labels. `auto` takes the faster one: the first batch of each size (to powers of two) runs
    through both. After torch.use_deterministic_algorithms(True), `auto` takes cuDNN's, and the CPU for other batches.

    Args:
        log_probs: (B, T, V) float32 or float64, natural log; rows sum to 1 once exponentiated (not checked; cuDNN
            normalises them). (T, V) is one utterance, with targets (U,) and one integer for each length. Half precision
            is refused: cast the logits to float32 before log_softmax, which loses digits.
        targets: (B, U) integers padded with anything, or (sum of target_lengths,) concatenated; no blanks. Targets and
            lengths may be lists or NumPy arrays. Leave them on the CPU: they are checked there, and a copy from a GPU
            waits for it.
        input_lengths: (B,) integers, 0 <= input_lengths[b] <= T.
        target_lengths: (B,) integers, 0 <= target_lengths[b] <= U.
        blank: index of the blank label, 0 <= blank < V.
        backend: "native", "cudnn", or "auto".
        note: called on a CUDA device with a sentence: the choice of `auto` and the measured times, or the reason why
            cuDNN cannot take the batch; similar batches give the same sentence. None: the reason is an AsrWarning.
    Returns:
        (B,) losses, or () of one utterance, of the dtype and on the device of log_probs; each >= 0 up to rounding, inf
        or NaN as above.
    Raises:
        InputError: a shape, dtype, length, label or the blank is not as above; or backend is "cudnn" and cuDNN cannot
            take the batch: the message gives the condition that fails.
    Source: Graves et al. 2006, sections 4.1 and 4.2.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}")
    if not isinstance(log_probs, Tensor):
        raise InputError(f"log_probs must be a torch tensor, for example from torch.as_tensor; got {type(log_probs)}")
    if log_probs.ndim not in (2, 3) or log_probs.dtype not in (torch.float32, torch.float64):
        raise InputError(
            "log_probs must be (B, T, V), or (T, V), in float32 or float64 (cast the logits before log_softmax); "
            f"got shape {tuple(log_probs.shape)} in {log_probs.dtype}"
        )
    targets, input_lengths, target_lengths = (
        _integers_on_cpu(values, name=name)
        for name, values in (
            ("targets", targets),
            ("input_lengths", input_lengths),
            ("target_lengths", target_lengths),
        )
    )
    if log_probs.ndim == 2:
        if (input_lengths.numel(), target_lengths.numel(), targets.ndim) != (1, 1, 1):
            raise InputError(
                "targets must be (U,), and input_lengths and target_lengths one integer, for log_probs (T, V); "
                f"got {tuple(targets.shape)}, {tuple(input_lengths.shape)} and {tuple(target_lengths.shape)}"
            )
        lengths = input_lengths.reshape(1), target_lengths.reshape(1)
        return ctc_loss(log_probs[None], targets, *lengths, blank=blank, backend=backend, note=note)[0]
    batch, num_frames, num_labels = log_probs.shape
    labels = _checked_labels(targets, input_lengths, target_lengths, blank=blank, num_labels=num_labels)
    if len(input_lengths) != batch:
        raise InputError(f"log_probs holds {batch} utterances but input_lengths {len(input_lengths)}")
    if (too_long := (input_lengths > num_frames).nonzero()).numel():
        row = int(too_long[0])
        raise InputError(
            f"input_lengths[{row}] must be at most the {num_frames} frames of log_probs; got {int(input_lengths[row])}"
        )
    if log_probs.numel() == 0:  # no frames: only the empty target has a path, the empty one
        impossible = (target_lengths > 0).to(log_probs.device)
        return log_probs.sum(dim=(1, 2)).masked_fill(impossible, torch.inf)

    emissions = _Floored.apply(log_probs, cudnn.NEVER)  # PyTorch's gradients of -inf are NaN
    losses = _chosen((emissions, labels, input_lengths, target_lengths), blank=blank, backend=backend, note=note)
    losses = losses.masked_fill(losses.detach() >= -cudnn.NEVER / 2, torch.inf)
    if losses.requires_grad:
        usual = losses.detach() < _LARGE  # and neither infinite nor NaN
        # Not zero_infinity=True: that would also report a loss of 0, and hide the utterance.
        emissions.register_hook(partial(_only_rows, rows=usual))
        large = (losses.detach().isfinite() & ~usual).nonzero()[:, 0]
        if len(large):
            parts = labels.split(target_lengths.tolist())
            rows = large.tolist()
            again = _Floored.apply(log_probs[large].double(), _FLOOR)
            inputs = again, torch.cat([parts[row] for row in rows]), input_lengths[rows], target_lengths[rows]
            exact = _native(*inputs, blank=blank).to(losses.dtype)
            losses = losses.index_put((large,), exact - exact.detach() + losses.detach()[large])
    return losses


class _Floored(torch.autograd.Function):
    """log_probs, but at least `least`; the gradient passes unchanged, where `clamp` would drop a part."""

    @staticmethod
    def forward(ctx, log_probs: Tensor, least: float) -> Tensor:
        return log_probs.clamp(min=least)  # NaN stays

    @staticmethod
    def backward(ctx, gradient: Tensor | None) -> tuple[Tensor | None, None]:
        return gradient, None


def _only_rows(gradient: Tensor | None, *, rows: Tensor) -> Tensor | None:
    """The gradient (B, T, V) of some utterances, and 0 for others; None (undefined) stays."""
    return None if gradient is None else gradient.masked_fill(~rows[:, None, None], 0.0)


def _chosen(batch: CheckedBatch, *, blank: int, backend: Backend, note: Note | None) -> Tensor:
    """Losses (B,) by the implementation that `backend` chooses.

    PyTorch chooses cuDNN without notice, but only for int32 targets. Targets for the native kernel are int64 here;
    otherwise the kernel would depend on the blank and on the lengths of the utterances.
    """
    emissions, _, _, target_lengths = batch
    native = partial(_native, blank=blank)
    if backend == "native" or (backend == "auto" and not emissions.is_cuda):
        return native(*batch)
    if obstacle := cudnn.obstacle(emissions, target_lengths, blank=blank):
        if backend == "cudnn":
            raise InputError(f"backend 'cudnn' cannot take this batch: {obstacle}")
        (note or _warn)(f"CTC does not run in cuDNN: {obstacle}")
        return (_on_cpu if torch.are_deterministic_algorithms_enabled() else _native)(*batch, blank=blank)
    if backend == "cudnn" or torch.are_deterministic_algorithms_enabled():
        return _in_cudnn(*batch)
    faster, sentence = _faster_backend(batch, native)
    if note:
        note(sentence)
    return (_in_cudnn if faster == "cudnn" else native)(*batch)


def _native(emissions: Tensor, labels: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int) -> Tensor:
    """Losses by PyTorch's own kernel on the device of the emissions."""
    time_first = emissions.transpose(0, 1)  # (B, T, V) -> (T, B, V)
    return torch.nn.functional.ctc_loss(
        time_first, labels.to(emissions.device), input_lengths, target_lengths, blank=blank, reduction="none"
    )


def _on_cpu(emissions: Tensor, labels: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int) -> Tensor:
    """Losses by PyTorch's kernel for the CPU, on any device."""
    return _native(emissions.cpu(), labels, input_lengths, target_lengths, blank=blank).to(emissions.device)


def _in_cudnn(emissions: Tensor, labels: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Losses by cuDNN, of a batch without a `cudnn.obstacle`."""
    return cudnn.losses_of_equal_lengths(emissions, labels, input_lengths, target_lengths, kernel=_cudnn_kernel)


def _cudnn_kernel(emissions: Tensor, labels: Tensor, input_lengths: list[int], target_lengths: list[int]) -> Tensor:
    """cuDNN itself. The lengths stay integers, because PyTorch has other conditions for tensors and their devices."""
    time_first = emissions.transpose(0, 1).contiguous()  # (B, T, V) -> (T, B, V)
    assert torch._use_cudnn_ctc_loss(time_first, labels, input_lengths, target_lengths, 0)
    return torch.ctc_loss(time_first, labels, input_lengths, target_lengths, 0, reduction=0)  # 0: none


def _faster_backend(batch: CheckedBatch, native: Kernel) -> tuple[Backend, str]:
    """The faster backend for batches of about this size, and a sentence about it; measured for the first of them."""
    emissions, _, _, target_lengths = batch
    sizes = [(size - 1).bit_length() for size in (*emissions.shape, max(int(target_lengths.max()), 1))]
    key = (emissions.device, *sizes)
    if key not in _faster:
        seconds: dict[Backend, float] = {"native": _seconds(native, batch)}
        try:
            seconds["cudnn"] = _seconds(_in_cudnn, batch)
        except RuntimeError as error:  # no memory for its workspace, for example: train without cuDNN
            torch.cuda.empty_cache()
            _faster[key] = "native", f"CTC runs in native: cudnn failed ({str(error).strip().partition(chr(10))[0]})"
            return _faster[key]
        fastest = min(seconds, key=lambda name: seconds[name])
        rows, frames, labels, longest = (2**size for size in sizes)
        _faster[key] = (
            fastest,
            f"CTC for up to {rows} x {frames} frames, {labels} labels and targets of {longest} runs in {fastest}: "
            f"native {1e3 * seconds['native']:.3g} ms, cudnn {1e3 * seconds['cudnn']:.3g} ms",
        )
    return _faster[key]


@torch.inference_mode(False)
@torch.enable_grad()
def _seconds(kernel: Kernel, batch: CheckedBatch) -> float:
    """The shortest of three times of loss and gradient, after one to warm up."""
    emissions, *rest = (tensor.clone() for tensor in batch)  # tensors from inference mode have no gradient; copies do
    least = float("inf")
    for attempt in range(4):
        leaf = emissions.detach().requires_grad_()
        start = time.perf_counter()
        kernel(leaf, *rest).sum().backward()
        assert leaf.grad is not None
        leaf.grad.sum().item()  # waits for the device
        if attempt > 0:
            least = min(least, time.perf_counter() - start)
    return least


def _warn(sentence: str) -> None:
    warnings.warn(AsrWarning(sentence), stacklevel=4)


def _checked_labels(
    targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int, num_labels: int
) -> Tensor:
    """Labels (sum of target_lengths,) of all targets, after checking them and the lengths (B,)."""
    if not 0 <= blank < num_labels:
        raise InputError(f"blank must be one of the {num_labels} labels, 0 .. {num_labels - 1}; got {blank}")
    if input_lengths.ndim != 1 or target_lengths.shape != input_lengths.shape:
        raise InputError(
            "input_lengths and target_lengths must both be (B,); "
            f"got {tuple(input_lengths.shape)} and {tuple(target_lengths.shape)}"
        )
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if (negative := (lengths < 0).nonzero()).numel():
            row = int(negative[0])
            raise InputError(f"{name}[{row}] must not be negative; got {int(lengths[row])}")
    labels = _concatenated(targets, target_lengths)
    wrong = (labels == blank) | (labels < 0) | (labels >= num_labels)
    if wrong.any():
        position = int(wrong.nonzero()[0])
        ends = target_lengths.cumsum(0)
        row = int(torch.searchsorted(ends, position, right=True))
        raise InputError(
            f"targets[{row}] must hold labels in 0 .. {num_labels - 1} other than the blank, {blank}; "
            f"label {position - int(ends[row] - target_lengths[row])} of it is {int(labels[position])}"
        )
    return labels


def _concatenated(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The labels of all utterances in one dimension, without padding."""
    if targets.ndim == 1:
        if len(targets) != int(target_lengths.sum()):
            raise InputError(
                f"target_lengths must sum to the {len(targets)} labels of the concatenated targets; "
                f"their sum is {int(target_lengths.sum())}"
            )
        return targets
    if targets.ndim != 2 or len(targets) != len(target_lengths):
        raise InputError(
            f"targets must be (B, U) with B = {len(target_lengths)}, or concatenated in one dimension; "
            f"got shape {tuple(targets.shape)}"
        )
    if (too_long := (target_lengths > targets.shape[1]).nonzero()).numel():
        row = int(too_long[0])
        raise InputError(
            f"target_lengths[{row}] must be at most the {targets.shape[1]} columns of targets; "
            f"got {int(target_lengths[row])}"
        )
    return targets[torch.arange(targets.shape[1]) < target_lengths[:, None]]


def _integers_on_cpu(values: object, *, name: str) -> Tensor:
    """Integers of a tensor, an array, a list or a list of lists as int64 on the CPU."""
    if not isinstance(values, Tensor):
        try:
            values = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"{name} must hold integers, in rows of the same length; got {values!r:.80}") from None
        values = values.long() if values.numel() == 0 else values
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise InputError(f"{name} must hold integers; got {values.dtype}")
    return values.detach().to("cpu", torch.int64)
