"""The interface between the epoch loop and the models that it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from asr.errors import AsrError
from asr.training.distributed import gather


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The loss of one batch; or of this process's rows of it, so that the sum over all processes is that of the batch.

    Args:
        loss: scalar to minimise, with its graph.
        figures: numbers for the log, "loss" among them.
        skipped: ids of utterances without an alignment.
        ids: ids of all utterances, for the message when the loss is not finite.
        blank_share: share of frames whose best label is Φ; 0 for a language model.
        notes: sentences for the log and the user.
    """

    loss: Tensor
    figures: Mapping[str, float]
    skipped: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    blank_share: float = 0.0
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """A model and its data, as the epoch loop sees them."""

    modules: nn.ModuleDict
    criterion: str  # the dev figure that decides which epochs are best; lower is better
    data_digest: str  # differs for other training data
    waiting_remedy: str  # advice at the end of the note about waiting for data

    @property
    def learning_rates(self) -> Mapping[str, float]:  # other peak rates than the loop's, by prefix of the parameters
        ...

    def num_batches(self, epoch: int) -> int: ...
    def batches(self, epoch: int, *, start: int) -> Iterator[Any]: ...
    def loss(self, batch: Any, *, generator: torch.Generator) -> BatchLoss: ...
    def evaluate(self) -> dict[str, float]: ...


class OutOfMemory(AsrError):
    """A batch does not fit into the memory of the GPU."""


@contextmanager
def naming(ids: Sequence[str]) -> Iterator[None]:
    """Name the batch if the GPU runs out of memory in the block."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        names = ", ".join(ids)
        raise OutOfMemory(
            "GPU out of memory on "
            + (names if len(ids) == 1 else f"a batch of {len(ids)} utterances ({names})")
            + "; lower data.batch_seconds (for text: data.batch_size), or give each process its own GPU"
        ) from error


def whole_batch(share: BatchLoss) -> BatchLoss:
    """The figures and names of a batch from all processes' rows, the same in each; the loss stays that of this one."""
    parts = gather((dict(share.figures), share.skipped, share.ids, share.blank_share, share.notes))
    figures, skipped, ids, blank_shares, notes = zip(*parts, strict=True)
    return BatchLoss(
        loss=share.loss,
        figures={name: sum(part[name] for part in figures) for name in share.figures},
        skipped=tuple(chain.from_iterable(skipped)),
        ids=tuple(chain.from_iterable(ids)),
        blank_share=sum(blank_shares),
        notes=tuple(dict.fromkeys(chain.from_iterable(notes))),
    )


def seed_of(*numbers: int) -> int:
    """A seed that differs for each sequence of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
