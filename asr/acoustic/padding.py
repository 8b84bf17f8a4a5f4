"""The padding of a batch: zeros in it, and no attention to it.

Lengths are (B,) int64 frames, usually on the CPU even if the model is on a GPU: then nothing here waits for the GPU.
"""

from __future__ import annotations

from torch import Tensor

from asr.acoustic.encoder import valid


def on_device(lengths: Tensor, values: Tensor) -> Tensor:
    """The lengths on the device of the values."""
    return lengths.to(values.device, non_blocking=lengths.device.type == "cpu")


def attended_frames(lengths: Tensor, hidden: Tensor) -> Tensor | None:
    """The frames of `hidden` (B, T, D) that all frames may look at, (B, 1, 1, T) bool; None: there is no padding.

    An utterance without a frame looks at its first one, because a softmax over nothing is not a number. Lengths on a
    GPU give a mask in any case, because the processor would have to wait for them.
    """
    if lengths.device.type == "cpu" and int(lengths.min()) >= hidden.shape[1]:
        return None
    return valid(on_device(lengths, hidden).clamp(min=1), hidden.shape[1])[:, None, None]


def without_padding(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with zeros past the lengths."""
    return hidden.masked_fill(~valid(on_device(lengths, hidden), hidden.shape[1])[:, :, None], 0.0)
