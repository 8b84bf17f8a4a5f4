"""The CTC loss in cuDNN: PyTorch's conditions for a batch, and a way to make any batch meet them.

PyTorch chooses cuDNN without notice, and only where `obstacle` is empty and every utterance is as long as the batch
(pytorch, aten/src/ATen/native/cudnn/LossCTC.cpp, `_use_cudnn_ctc_loss` with lengths as integers). So shorter utterances
are lengthened by frames that are certain to be Φ:

    log_probs        Φ     a     b             Φ     a     b
    frame 0        -0.2  -2.0  -3.1          -0.2  -2.0  -3.1
    frame 1        -1.0  -0.6  -2.9   ──▶    -1.0  -0.6  -2.9
    frame 2         anything at all            0   -1e30 -1e30      every path x 1: same loss, same gradient
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

# PyTorch does not use cuDNN for targets of this many labels or more.
LABELS_REFUSED = 256
# Replaces -inf, which cuDNN may turn into NaN: a path through it is negligible beside any other path, and a sum over a
# hundred thousand frames is still finite in float32.
NEVER = -1e30

# (log_probs (B, T, V), labels (n,) int32 on the CPU, input_lengths, target_lengths) to losses (B,)
Kernel: TypeAlias = Callable[[Tensor, Tensor, list[int], list[int]], Tensor]


def obstacle(log_probs: Tensor, target_lengths: Tensor, *, blank: int) -> str:
    """The reason why cuDNN cannot take a batch, even with utterances of equal length; empty if there is none."""
    if log_probs.device.type != "cuda" or torch.version.hip:
        return f"log_probs must be on a CUDA device, not on {log_probs.device}{' of ROCm' if torch.version.hip else ''}"
    if not torch.backends.cudnn.is_available():
        return "this PyTorch was built without cuDNN"
    if not torch.backends.cudnn.enabled:
        return "torch.backends.cudnn.enabled must be True"
    if log_probs.dtype != torch.float32:
        return f"log_probs must be float32, not {log_probs.dtype}"
    if blank != 0:
        return f"the blank must be label 0, not {blank}"
    if log_probs.shape[-1] < 2:
        return "there must be a label beside the blank"
    if int(target_lengths.max()) >= LABELS_REFUSED:
        return f"targets must have fewer than {LABELS_REFUSED} labels"  # the same sentence for all such batches
    return ""


def losses_of_equal_lengths(
    log_probs: Tensor, labels: Tensor, input_lengths: Tensor, target_lengths: Tensor, *, kernel: Kernel
) -> Tensor:
    """The CTC losses of a batch by a kernel that needs all utterances as long as the batch; the blank is label 0.

    The kernel gets no target without an alignment, for which cuDNN reads memory out of bounds, and no empty target, for
    which it returns NaN (pytorch issue 21680). Both are replaced by an arbitrary label, and their loss is computed
    here. The kernel gets `NEVER` for a probability of 0, and a loss of that size becomes infinite.

    Args:
        log_probs: (B, T, V) with T >= 1 and V >= 2, natural log.
        labels: (sum of target_lengths,) int64 on the CPU, 1 .. V - 1.
        input_lengths: (B,) int64 on the CPU, <= T.
        target_lengths: (B,) int64 on the CPU.
        kernel: gets only labels and lengths that it can take; its loss may be anything where log_probs holds NaN.
    Returns:
        (B,) losses: inf where there is no alignment, NaN where a frame within the length holds one.
    """
    device, num_frames = log_probs.device, log_probs.shape[1]
    impossible = frames_needed(labels, target_lengths) > input_lengths
    empty = target_lengths == 0
    stand_in = torch.ones(1, dtype=torch.int64)
    parts = [
        stand_in if left_out else part
        for part, left_out in zip(labels.split(target_lengths.tolist()), (impossible | empty).tolist(), strict=True)
    ]
    frames = lengthened(log_probs, input_lengths)
    losses = kernel(frames, torch.cat(parts).int(), [num_frames] * len(log_probs), [len(part) for part in parts])
    if empty.any():
        rows = empty.nonzero()[:, 0].to(device)
        silent = frames[rows]
        probabilities = silent.exp().sum(dim=(1, 2))  # for the gradient only: see `ctc_loss`
        losses = losses.index_put((rows,), probabilities - probabilities.detach() - silent[:, :, 0].sum(dim=1))
    losses = losses.masked_fill(impossible.to(device) | (losses.detach() >= -NEVER / 2), torch.inf)
    return losses.masked_fill(frames.detach().isnan().flatten(1).any(dim=1), torch.nan)


def lengthened(log_probs: Tensor, input_lengths: Tensor) -> Tensor:
    """(B, T, V) with frames past input_lengths (B,) that are certain to be label 0, and `NEVER` for -inf."""
    within = torch.arange(log_probs.shape[1]) < input_lengths[:, None]
    frames = log_probs.clamp(min=NEVER)  # NaN stays
    if within.all():
        return frames
    certain = log_probs.new_full((log_probs.shape[-1],), NEVER)
    certain[0] = 0.0
    return torch.where(within.to(log_probs.device)[:, :, None], frames, certain)


def frames_needed(labels: Tensor, target_lengths: Tensor) -> Tensor:
    """(B,) the fewest frames of each target: one for each label, and one between equal labels.

    Args:
        labels: (sum of target_lengths,) of all targets, concatenated.
        target_lengths: (B,).
    """
    rows = torch.arange(len(target_lengths)).repeat_interleave(target_lengths)
    repeats = (labels[1:] == labels[:-1]) & (rows[1:] == rows[:-1])
    return target_lengths + torch.bincount(rows[1:][repeats], minlength=len(target_lengths))
