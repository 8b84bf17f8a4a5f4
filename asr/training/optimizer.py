"""One step of training: the optimiser, its learning rate, gradients scaled and clipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from asr.training.config import LoopOptions
from asr.training.distributed import sum_gradients, total

Scaler: TypeAlias = torch.amp.GradScaler
NO_SCALING = torch.amp.GradScaler("cpu", enabled=False)


def make_scaler(modules: nn.Module, options: LoopOptions) -> Scaler:
    """A scaler of losses for float16; also for bfloat16 on a GPU, where cuDNN's recurrent layers run in float16.

    Source: aten/src/ATen/cudnn/AutocastRNN.cpp of PyTorch, which casts to float16 in every mode of autocast.
    """
    on_gpu = any(parameter.is_cuda for parameter in modules.parameters())
    return torch.amp.GradScaler(
        "cuda", enabled=options.precision == "float16" or (options.precision == "bfloat16" and on_gpu)
    )


def make_optimizer(
    modules: nn.Module, options: LoopOptions, *, rates: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """An optimiser with weight decay for matrices only: not for biases, norms, and kernels or peepholes 3 wide.

    Args:
        modules: what to train.
        options: its kind, and the peak learning rate.
        rates: other peak learning rates of the parameters whose names begin with a prefix, by prefix.
    """
    parameters: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in modules.named_parameters():
        is_matrix = parameter.ndim >= 2 and min(parameter.shape) > 3
        peak = next((rate for prefix, rate in rates.items() if name.startswith(prefix)), options.learning_rate)
        parameters.setdefault((is_matrix, peak / options.learning_rate), []).append(parameter)
    groups = [
        {"params": members, "weight_decay": options.weight_decay if is_matrix else 0.0, "rate_share": share}
        for (is_matrix, share), members in parameters.items()
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate(options: LoopOptions, epochs_done: float, *, halvings: int) -> float:
    """The rate after `epochs_done` epochs: linear warm-up, then the schedule, down to its final share."""
    rising = options.rising_epochs
    if epochs_done < rising:
        return options.learning_rate * epochs_done / rising
    if options.schedule == "plateau":
        return options.learning_rate * max(0.5**halvings, options.final_learning_rate)
    rest = max(options.epochs - rising, 1e-9)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min((epochs_done - rising) / rest, 1.0)))
    return options.learning_rate * (options.final_learning_rate + (1.0 - options.final_learning_rate) * cosine)


def update(
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    *,
    rate: float,
    clip_norm: float,
    scaler: Scaler = NO_SCALING,
) -> float:
    """Take one optimiser step with the gradient clipped to `clip_norm`; returns the norm before clipping.

    Losses and gradients of all processes are added up. If the loss or the gradient is not finite, nothing changes, and
    the norm is not finite either. In float16, whose smallest number is 6e-8, the scaler multiplies the loss before the
    backward pass, divides the gradients afterwards, and uses a smaller factor after an overflow.
    """
    optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(*total(loss.item())):
        return math.nan
    scaler.scale(loss).backward()
    sum_gradients(modules.parameters())
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(modules.parameters(), clip_norm).item()
    if math.isfinite(norm) and norm > 0:  # 0: no utterance could be aligned, and momentum alone must not continue
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_share", 1.0)  # old checkpoints have none
        scaler.step(optimizer)
    scaler.update()
    return norm
