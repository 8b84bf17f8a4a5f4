"""What the processes of one training tell each other; alone, a process gets back what it gave.

Every process holds the whole model and takes its share of the rows of every batch, so that a step is the same step for
any number of processes: losses are normalised by counts over the whole batch, and gradients are summed. One sum of all
gradients, in one call after the backward pass, stands in the place of DistributedDataParallel: a process without rows,
a part of the model that nothing used and a step that nobody takes need no special treatment, and neither do forward,
checkpoints and the names of weights. What is lost is the overlap of sending with computing: see docs/training.md.

Calls must be the same, and in the same order, in all processes. Where one ends, the others notice (`PeerLost`), or are
ended by what started them: torchrun, or `asr.training.launch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from asr.compute.device import find_device
from asr.errors import AsrError, ConfigError

MEETING = "ASR_TRAINING_MEETING"  # where `asr.training.launch` lets its processes meet; torchrun's do as it says

Value = TypeVar("Value")


class PeerLost(AsrError):
    """Another process of the training has ended, or cannot be reached."""


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, also before and after the training itself."""
    return int(os.environ.get("RANK", 0)) == 0


def rank() -> int:
    """The number of this process in the group, from 0; 0 outside of a group."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """Processes in the group; 1 outside of one."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Inside, this process is in the group of those that were started with it, if any were; gives its own device.

    Args:
        device: as for `find_device`; with several processes, each has the GPU of its number on its machine.
    Raises:
        ConfigError: several processes were asked to train on one GPU.
        InputError: there is no such device.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started == 1 or dist.is_initialized():
        yield find_device(device)
        return
    place = find_device(device)
    if place.type == "cuda":
        if place.index is not None:
            raise ConfigError(f"{started} processes need a GPU each: device must be cuda or auto, not {device!r}")
        place = find_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(place)
    with _peers():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo",
            init_method=os.environ.get(MEETING, "env://"),
            rank=int(os.environ["RANK"]),
            world_size=started,
        )
    try:
        yield place
    finally:
        dist.destroy_process_group()


def own(items: Sequence[Value]) -> Sequence[Value]:
    """This process's share of what is there for all: every n-th, so that sorted items are shared out evenly."""
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
    """For each question, whether any process says yes."""
    return [yes > 0 for yes in total(*answers)]


def gather(value: Value) -> list[Value]:
    """What each process gave, in the order of their numbers."""
    values = [value] * num_processes()
    if num_processes() > 1:
        with _peers():
            dist.all_gather_object(values, value)
    return values


def from_first(function: Callable[[], Value]) -> Value:
    """What `function` gives in the first process, which alone calls it; where it raises, all processes do."""
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
    """Each gradient becomes its sum over all processes; a parameter that no process used is left without one."""
    if num_processes() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    used = torch.tensor([float(p.grad is not None) for p in trained]).to(pieces[0])
    flat = torch.cat([*(piece.flatten() for piece in pieces), used])
    with _peers():
        dist.all_reduce(flat)
    *sums, used = flat.split([*(piece.numel() for piece in pieces), len(used)])
    for parameter, gradient, users in zip(trained, sums, used.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if users else None


@contextmanager
def _peers() -> Iterator[None]:
    """Errors of the connection to other processes become one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise PeerLost(
            "another process of this training has ended or cannot be reached; "
            f"the same command goes on from the last checkpoint ({reason})"
        ) from error
