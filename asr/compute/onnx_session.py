"""Sessions of onnxruntime, with the number of threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asr.compute.onnx_graph import Graph, is_external
from asr.compute.threads import chosen_threads, threads_of_environment
from asr.errors import DataError


def open_session(model: Path, *, gpu: int | None = None) -> Any:
    """A session of onnxruntime for a file.

    Args:
        model: the file.
        gpu: number of the CUDA device; None means the processor.
    Raises:
        DataError: onnxruntime cannot read the file.
    """
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if gpu is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
    try:
        return onnxruntime.InferenceSession(model, _options(), providers=providers)
    except Exception as error:  # onnxruntime has no common class of errors
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"onnxruntime cannot read this model: {reason}", path=model) from None


def open_graph(graph: Graph, tensors: Mapping[str, np.ndarray]) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """A function that computes the outputs of a graph from its inputs.

    Args:
        graph: a graph of ours.
        tensors: of a model folder; see `Graph.shapes`.
    """
    import onnxruntime

    arrays = graph.arrays(tensors)
    options = _options()
    # Without a layout of their own for convolutions: to choose it takes half of the time, and these graphs have two.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    names = [name for name, array in arrays.items() if is_external(array)]
    options.add_external_initializers(names, [onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]) for name in names])
    content = graph.to_bytes(arrays, external=True)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])  # it copies the arrays
    return partial(session.run, None)


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen_threads() or threads_of_environment()  # 0: one for each core
    options.log_severity_level = 3  # errors
    options.enable_cpu_mem_arena = False  # it keeps half as much memory again, and saves no time
    return options
