"""Sessions of onnxruntime, with the number of threads of this process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.compute.onnx_graph import Graph, is_external
from asr.compute.threads import chosen_threads
from asr.errors import DataError

if TYPE_CHECKING:
    import onnxruntime


def open_session(model: Path | bytes, *, gpu: int | None = None, arrays: Mapping[str, np.ndarray] | None = None) -> Any:
    """A session of onnxruntime.

    Args:
        model: its file, or the content of one.
        gpu: number of the CUDA device; None means the processor.
        arrays: weights that are left out of the content.
    Raises:
        DataError: onnxruntime cannot read the file.
    """
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if gpu is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen_threads() or _threads_of_environment()  # 0: one for each core
    options.log_severity_level = 3  # errors
    options.enable_cpu_mem_arena = False  # it keeps half as much memory again, and saves no time
    if arrays:
        names = [name for name, array in arrays.items() if is_external(array)]
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]) for name in names]
        options.add_external_initializers(names, values)
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime has no common class of errors
        if isinstance(model, bytes):
            raise
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"onnxruntime cannot read this model: {reason}", path=model) from None


def session_of(graph: Graph, tensors: Mapping[str, np.ndarray]) -> onnxruntime.InferenceSession:
    """The session of a graph with the tensors of a model folder; see `Graph.shapes`."""
    arrays = graph.arrays(tensors)
    return open_session(graph.to_bytes(arrays, external=True), arrays=arrays)


def _threads_of_environment() -> int:
    """OMP_NUM_THREADS, which other libraries follow too; 0 if it is not a number."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
