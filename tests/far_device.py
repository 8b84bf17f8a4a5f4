"""A device on the CPU whose tensors refuse those of the CPU, as a GPU's do; and what runs on it, compared with the CPU.

    python -m tests.far_device training

Where no GPU is at hand, it finds tensors that were forgotten on the other side. Its own are wrappers: what an operation
gets is unwrapped, computed on the CPU, and wrapped again. PyTorch's engine of gradients counts devices when it first
runs, so that this one has to be known before: in a process of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

if TYPE_CHECKING:  # nothing of asr is loaded before the device is known
    from asr.training.config import LoopOptions
    from asr.training.task import Task

COPIES = {"copy_", "_to_copy"}
# Places of arguments that CUDA takes from the CPU: lists of indices, and the lengths of CTC.
FROM_THE_CPU = {
    **dict.fromkeys(("index", "index_put", "index_put_", "_index_put_impl_"), (1,)),
    "_ctc_loss": (2, 3),
    "_ctc_loss_backward": (3, 4),
}
ran_far: set[str] = set()  # names of operations


class FarTensor(Tensor):
    """A tensor of the device; `near` has its values."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device="far:0",
            requires_grad=near.requires_grad,
        )
        made.near = near
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    def tolist(self) -> Any:
        return self.near.tolist()


class FarDevice(TorchDispatchMode):
    """Inside, tensors can be made on the device "far"."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


def run(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One of PyTorch's operations, far if one of its tensors is.

    Raises:
        RuntimeError: another of its tensors is on the CPU, and has a dimension; or its generator is there.
    """
    if torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd"):
        with nullcontext() if torch._C._len_torch_dispatch_stack() else FarDevice():
            return operation.decompose(*args, **kwargs)
    name = operation.overloadpacket.__name__
    wrappers = {id(leaf.near): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FarTensor)}
    bound = [argument for place, argument in enumerate(args) if place not in FROM_THE_CPU.get(name, ())]
    leaves = [leaf for leaf in tree_leaves((bound, kwargs)) if isinstance(leaf, Tensor)]
    near = [tuple(leaf.shape) for leaf in leaves if leaf.ndim and not isinstance(leaf, FarTensor)]
    if wrappers and near and name not in COPIES:
        raise RuntimeError(f"all tensors of {operation} must be on one device; on the CPU are those of shape {near}")
    device = kwargs.get("device")
    is_far = bool(wrappers) if device is None else torch.device(device).type == "far"
    if is_far and kwargs.get("generator") is not None:
        raise RuntimeError(f"the generator of {operation} must be on the device of its result")
    if is_far and device is not None:
        kwargs = {**kwargs, "device": "cpu", "pin_memory": False}
    args, kwargs = tree_map_only(FarTensor, lambda tensor: tensor.near, (tuple(args), dict(kwargs)))
    result = LSTM.get(name, operation)(*args, **kwargs)
    if not is_far:
        return result
    ran_far.add(name)
    return tree_map_only(Tensor, lambda made: wrappers[id(made)] if id(made) in wrappers else FarTensor(made), result)


def lstm_cell(inputs: Tensor, hidden: Tensor, cell: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, cell and activated gates (B, 4H): what PyTorch runs where it has no kernel for whole layers."""
    sums = inputs + hidden + sum(biases)
    gates = [gate.tanh() if number == 2 else gate.sigmoid() for number, gate in enumerate(sums.chunk(4, dim=1))]
    into, keep, new, out = gates
    cell = keep * cell + into * new
    return out * cell.tanh(), cell, torch.cat(gates, dim=1)


def lstm_cell_backward(
    out_gradient: Tensor | None, cell_gradient: Tensor | None, before: Tensor, cell: Tensor, gates: Tensor, biased: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the gates' sums, of the cell before, and of a bias."""
    into, keep, new, out = gates.chunk(4, dim=1)
    above = torch.zeros_like(cell) if out_gradient is None else out_gradient
    inside = above * out * (1 - cell.tanh() ** 2) + (0 if cell_gradient is None else cell_gradient)
    parts = (inside * new, inside * before, inside * into, above * cell.tanh())
    slopes = (into * (1 - into), keep * (1 - keep), 1 - new**2, out * (1 - out))
    sums = torch.cat([part * slope for part, slope in zip(parts, slopes, strict=True)], dim=1)
    return sums, inside * keep, sums.sum(dim=0) if biased else None


LSTM = {"_thnn_fused_lstm_cell": lstm_cell, "_thnn_fused_lstm_cell_backward_impl": lstm_cell_backward}


def register() -> torch.device:
    """Makes PyTorch know the device, and go round two things that no wrapper can be part of.

    They are inference mode, in which no tensor has a version, and torch.tensor, which fills memory of the device.
    """
    from torch.utils.backend_registration import (  # type: ignore[attr-defined]
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )

    class Module(_DummyBackendModule):
        @staticmethod
        def get_amp_supported_dtype() -> list[torch.dtype]:
            return [torch.bfloat16]

    _setup_privateuseone_for_python_backend("far", backend_module=Module())
    plain = torch.tensor
    torch.tensor = lambda data, device=None, **options: plain(data, **options).to(device or "cpu")  # type: ignore
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()  # type: ignore
    return torch.device("far:0")


def steps(task: Task, options: LoopOptions) -> list[float]:
    """Losses, shares of Φ and norms of gradients of three steps, and dev figures after them."""
    from asr.training.optimizer import make_optimizer, update

    optimizer = make_optimizer(task.modules, options)
    task.modules.train()
    figures = []
    for batch in islice(task.batches(0, start=0), 3):
        result = task.loss(batch, generator=torch.Generator().manual_seed(0))
        norm = update(task.modules, optimizer, result.loss, rate=0.01, clip_norm=1.0)
        figures += [*result.figures.values(), result.blank_share, norm]
    return [*figures, *task.evaluate().values()]


def training(device: torch.device, folder: Path) -> list[float]:
    """Losses and gradients of acoustic models, phones as a second target, whole and in chunks, and dev figures."""
    from asr.training.acoustic_task import prepare_acoustic_task
    from asr.training.config import AuxiliaryOptions
    from tests import tones

    tones.make_corpus(folder)
    auxiliary = AuxiliaryOptions(lexicon=str(folder / "lexicon.txt"), layer=1, weight=0.3)
    config, figures = tones.make_config(folder, auxiliary=auxiliary), []
    for chunked in (0.0, 1.0):
        config = replace(config, data=replace(config.data, chunked=chunked))
        task = prepare_acoustic_task(config, device=device, note=print)
        task.rehearse()
        figures += steps(task, task.config.loop)
    return figures


def language_model(device: torch.device, folder: Path) -> list[float]:
    """Losses and gradients of a language model, a dev figure, and what it makes of a text."""
    from asr.training.config import LanguageLoopOptions, LanguageTrainingConfig, NetworkOptions, TextDataOptions
    from asr.training.language_task import prepare_language_task

    text = folder / "text.txt"
    text.write_text("the owl often hoots\nthe cow never barks\n" * 40)
    config = LanguageTrainingConfig(
        data=TextDataOptions(train=(str(text),), dev=(str(text),), batch_size=8, chunk_length=10),
        network=NetworkOptions(hidden_size=24, embedding_size=12, cutoffs=(4,), divisor=2),
        loop=LanguageLoopOptions(epochs=2, learning_rate=0.02, precision="float32"),
    )
    from asr.lm.prefix_tree import score_together

    task = prepare_language_task(config, folder, device=device, note=print)
    return [*steps(task, config.loop), *score_together(task.model, ["the owl often barks"]).tolist()]


def recognition(device: torch.device, folder: Path) -> list[float]:
    """Emissions of a recording, an alignment with them, and scores with an LSTM after the search and inside it."""
    from asr.compute import device as devices
    from asr.ctc.alignment import align
    from asr.recognition import recognizer as recognizers

    devices.find_device = recognizers.find_device = lambda name: device
    recognizer = recognizers.load("an4", precision="float32", runtime="torch", decoding={"beam_width": 4})
    speech = Path(__file__).parent / "audio" / "cen8-mmxg-b.flac"
    emission = recognizer.log_probs(speech)
    found = align(torch.from_numpy(emission).to(device), [1, 2, 3], blank=0)
    rescore_lm = recognizer.decoder.options.rescoring.rescore_lm
    fused = recognizer.with_decoding({"beam_width": 4, "fuse_lm": rescore_lm, "rescore_lm": None})
    scores = [each.transcribe(speech).hypotheses[0].score for each in (recognizer, fused)]
    return [*emission.ravel().tolist(), *found.spans.ravel().tolist(), *scores]


PARTS: dict[str, Callable[[torch.device, Path], list[float]]] = {
    "training": training,
    "language-model": language_model,
    "recognition": recognition,
}


def main(part: str) -> None:
    far = register()
    results = []
    for device in (torch.device("cpu"), far):
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder, FarDevice() if device is far else nullcontext():
            results.append(PARTS[part](device, Path(folder)))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3, atol=1e-5)
    assert ran_far & LSTM.keys(), "no layer ran on the device"
    check_refusals(far)


def check_refusals(far: torch.device) -> None:
    """What a GPU refuses, the device does."""
    numbers, places = torch.arange(3.0), torch.tensor([0, 2])
    refused: list[Callable[[], object]] = [
        lambda: numbers.to(far) + numbers,
        lambda: numbers[places.to(far)],
        lambda: numbers.to(far).index_put_((places,), numbers[:2]),
        lambda: numbers.index_put_((places,), numbers[:2].to(far)),
        lambda: torch.randn(3, device=far, generator=torch.Generator()),
    ]
    with FarDevice():
        assert numbers.to(far)[places].tolist() == [0.0, 2.0]
        for number, work in enumerate(refused):
            try:
                work()
            except RuntimeError as error:
                assert "must be on" in str(error), error
            else:
                raise AssertionError(f"the device does not refuse number {number}")


if __name__ == "__main__":
    main(sys.argv[1])
