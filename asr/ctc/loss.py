"""The CTC loss of each utterance of a batch, on the CPU or a CUDA device."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.errors import InputError


def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int
) -> Tensor:
    """Negative log-likelihood of each utterance's target, in nats, summed over all its alignments.

        loss[b] = -ln Σ_{π : collapse(π) = targets[b]} Π_{t < input_lengths[b]} p[b, t, π_t]

    Nothing is reduced, averaged or dropped. A target that has no alignment (fewer frames than `minimum_frames`, or a
    probability of zero on every path) has an infinite loss and a gradient of exactly zero, and leaves its neighbours
    alone, so a trainer can name such utterances and go on:

        losses = ctc_loss(...)
        losses[losses.isfinite()].sum().backward()

    A NaN in an utterance's frames gives it a NaN loss, with a gradient of zero here too; but log_softmax, and whatever
    comes before it, will spread a NaN into the gradients of the weights all the same: skip such a batch.

    The gradient is the one that log_softmax wants: exp(log_probs) minus the posterior of each label. It equals the
    derivative with respect to the logits, and only for log_probs that come from log_softmax. Frames past
    input_lengths[b] have a gradient of zero, whatever they hold. On CUDA gradients may differ in their last bits from
    run to run, because the kernel adds them up in any order.

    Args:
        log_probs: (B, T, V) float32 or float64, natural log; rows sum to 1 once exponentiated (not checked). Half
            precision is refused: cast the logits to float32 before log_softmax, where the digits are lost.
        targets: (B, U) integers padded with anything, or (sum of target_lengths,) concatenated; no blanks. Best kept
            on the CPU, as are the lengths: they are checked there, and fetching them from a GPU waits for it.
        input_lengths: (B,) integers, 0 <= input_lengths[b] <= T.
        target_lengths: (B,) integers, 0 <= target_lengths[b] <= U.
        blank: index of the blank label, 0 <= blank < V.
    Returns:
        (B,) losses, of the dtype and on the device of log_probs; each >= 0 but for rounding, inf or NaN as above.
    Raises:
        InputError: a shape, dtype, length, label or the blank is not as above.
    Source: Graves et al. 2006, sections 4.1 and 4.2.
    """
    if log_probs.ndim != 3 or log_probs.dtype not in (torch.float32, torch.float64):
        raise InputError(
            "log_probs must be (B, T, V) in float32 or float64 (cast the logits before log_softmax); "
            f"got shape {tuple(log_probs.shape)} in {log_probs.dtype}"
        )
    batch, num_frames, num_labels = log_probs.shape
    labels, input_lengths, target_lengths = _checked_targets(
        targets, input_lengths, target_lengths, blank=blank, num_labels=num_labels
    )
    if len(input_lengths) != batch:
        raise InputError(f"log_probs holds {batch} utterances but input_lengths {len(input_lengths)}")
    if (too_long := (input_lengths > num_frames).nonzero()).numel():
        row = int(too_long[0])
        raise InputError(
            f"input_lengths[{row}] must be at most the {num_frames} frames of log_probs; got {int(input_lengths[row])}"
        )
    if log_probs.numel() == 0:  # no frames at all: only the empty target has a path, the empty one
        impossible = (target_lengths > 0).to(log_probs.device)
        return log_probs.sum(dim=(1, 2)).masked_fill(impossible, torch.inf)

    emissions = log_probs.transpose(0, 1)  # (B, T, V) -> (T, B, V)
    losses = _back_end(emissions, labels, input_lengths, target_lengths, blank=blank)
    if losses.requires_grad:
        finite = losses.detach().isfinite()[None, :, None]
        # Not zero_infinity=True: that would also report a loss of 0, and hide the utterance.
        emissions.register_hook(lambda gradient: gradient.masked_fill(~finite, 0.0))
    return losses


def _back_end(
    emissions: Tensor, labels: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int
) -> Tensor:
    """Losses (B,) by PyTorch's own kernels; the one place that chooses between implementations.

    PyTorch turns to cuDNN without a word, but only for int32 targets; the labels here are int64. Were it otherwise, a
    batch would change its kernel, and with it its rounding, with its blank and with the lengths of its utterances.
    """
    return torch.nn.functional.ctc_loss(
        emissions, labels.to(emissions.device), input_lengths, target_lengths, blank=blank, reduction="none"
    )


def _checked_targets(
    targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, blank: int, num_labels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (sum of target_lengths,), input_lengths (B,) and target_lengths (B,), all int64 on the CPU."""
    if not 0 <= blank < num_labels:
        raise InputError(f"blank must be one of the {num_labels} labels, 0 .. {num_labels - 1}; got {blank}")
    targets = _integers_on_cpu(targets, name="targets")
    input_lengths = _integers_on_cpu(input_lengths, name="input_lengths")
    target_lengths = _integers_on_cpu(target_lengths, name="target_lengths")
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
    return labels, input_lengths, target_lengths


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


def _integers_on_cpu(values: Tensor, *, name: str) -> Tensor:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise InputError(f"{name} must hold integers; got {values.dtype}")
    return values.detach().to("cpu", torch.int64)
