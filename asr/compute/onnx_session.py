"""Sessions of onnxruntime, with the number of threads of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from asr.compute.onnx_graph import Graph, is_external
from asr.compute.threads import chosen_threads
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

    onnxruntime prepares the graph in a thread of its own, while the caller loads other things.

    Args:
        graph: a graph of ours.
        tensors: of a model folder; see `Graph.shapes`.
    """
    pool = ThreadPoolExecutor(1)
    session = pool.submit(_graph_session, graph, graph.arrays(tensors))
    pool.shutdown(wait=False)
    return lambda inputs: session.result().run(None, inputs)


def _graph_session(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Any:
    import onnxruntime

    options = _options()
    # Without a layout of their own for convolutions: to choose it takes half of the time, and these graphs have two.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    names = [name for name, array in arrays.items() if is_external(array)]
    options.add_external_initializers(names, [onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name]) for name in names])
    content = graph.to_bytes(arrays, external=True)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])  # it copies the arrays


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen_threads() or _threads_of_environment()  # 0: one for each core
    options.log_severity_level = 3  # errors
    options.enable_cpu_mem_arena = False  # it keeps half as much memory again, and saves no time
    return options


def _threads_of_environment() -> int:
    """OMP_NUM_THREADS, which other libraries follow too; 0 if it is not a number."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
