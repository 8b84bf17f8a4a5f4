"""Communication between the processes of one training; a single process gets its own values back.

Every process has the whole model and its share of the rows of every batch, so that a step is the same for any number of
processes: losses are divided by counts over the whole batch, and gradients are summed. All gradients are summed in one
call after the backward pass, instead of by DistributedDataParallel. So processes without rows, unused parameters and
skipped steps need no special treatment, and neither do the forward pass, checkpoints and names of weights. The
disadvantage is that sending does not overlap with computing: see docs/training.md.

All processes must make the same calls in the same order. If one ends, the others notice it (`PeerLost`), or are ended
by the process that started them: torchrun, or `asr.training.launch`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from asr.compute.device import find_device
from asr.errors import AsrError, ConfigError

MEETING = "ASR_TRAINING_MEETING"  # where processes of `asr.training.launch` meet; torchrun has its own variables

Value = TypeVar("Value")


class PeerLost(AsrError):
    """Another process of the training has ended, or cannot be reached."""


def is_first() -> bool:
    """Whether this is the process that writes files and notes, also outside the group."""
    return int(os.environ.get("RANK", 0)) == 0


def only_first(function: Callable[..., None]) -> Callable[..., None]:
    """The function in the first process; a function that does nothing in the others."""
    return function if is_first() else lambda *_, **__: None


def rank() -> int:
    """The number of this process in the group, from 0; 0 outside a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """Number of processes in the group; 1 outside a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM has come; a second SIGINT interrupts at once.

    A process that `asr.training.launch` started leaves SIGINT to the process that started it, which passes it on as
    SIGTERM. Outside the main thread, where Python takes no signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = (signal.SIGTERM,) if MEETING in os.environ else (signal.SIGINT, signal.SIGTERM)
    received: list[int] = []

    def remember(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the group of the processes that were started together, if there are several; yields this one's device.

    Args:
        device: as for `find_device`; each of several processes has the GPU of its number on its machine.
    Raises:
        ConfigError: several processes cannot train on one GPU.
        InputError: the device does not exist.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    own_device = find_device(device)
    if size == 1 or dist.is_initialized():
        yield own_device
        return
    if own_device.type == "cuda":
        if own_device.index is not None:
            raise ConfigError(f"{size} processes need a GPU each: device must be cuda or auto, not {device!r}")
        own_device = find_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(own_device)
    with _peers():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if own_device.type == "cuda" else "gloo",
            init_method=os.environ.get(MEETING, "env://"),
            rank=int(os.environ["RANK"]),
            world_size=size,
        )
    try:
        yield own_device
    finally:
        dist.destroy_process_group()


def own(items: Sequence[Value]) -> Sequence[Value]:
    """This process's share of the items: every n-th, so that sorted items are shared evenly."""
    return items[rank() :: num_processes()]


def total(*values: float) -> list[float]:
    """The sum over all processes of each value."""
    if num_processes() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    with _peers():
        dist.all_reduce(sums)
    return sums.tolist()


def agreed(*answers: bool) -> list[bool]:
    """For each value, whether it is True in any process."""
    return [yes > 0 for yes in total(*answers)]


def gather(value: Value) -> list[Value]:
    """The values of all processes, in the order of their numbers."""
    values = [value] * num_processes()
    if num_processes() > 1:
        with _peers():
            dist.all_gather_object(values, value)
    return values


def from_first(function: Callable[[], Value]) -> Value:
    """The result of `function`, which only the first process calls; if it raises, all processes raise."""
    if num_processes() == 1:
        return function()
    outcome: list[Value | Exception | None] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except (AsrError, OSError) as error:
            outcome[1] = error
    with _peers():
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
    value, fault = outcome
    if isinstance(fault, Exception):
        raise fault
    return value  # type: ignore[return-value]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes; a parameter that no process used stays without one."""
    if num_processes() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    use_counts = torch.tensor([float(p.grad is not None) for p in trained]).to(pieces[0])
    flat = torch.cat([*(piece.flatten() for piece in pieces), use_counts])
    with _peers():
        dist.all_reduce(flat)
    *sums, use_counts = flat.split([*(piece.numel() for piece in pieces), len(use_counts)])
    for parameter, gradient, users in zip(trained, sums, use_counts.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if users else None


@contextmanager
def _peers() -> Iterator[None]:
    """Turn errors of the connection to other processes into one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise PeerLost(
            "another process of this training has ended or cannot be reached; "
            f"the same command resumes from the last checkpoint ({reason})"
        ) from error
