"""ONNX graphs beside the package onnx, which reads and checks them, and onnxruntime, which computes them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from asr.compute.onnx_graph import Graph, is_external
from asr.compute.onnx_session import open_graph, open_session

onnx = pytest.importorskip("onnx")


def make_graph() -> Graph:
    """(x @ W + b, summed over rows whose number is below `count`, and -1 of it) with a weight made from two tensors."""
    graph = Graph()
    x, count = graph.input("x", np.float32, "B", 40), graph.input("count", np.int64)
    matrix = graph.weight(
        "matrix", {"left": (40, 10), "right": (40, 20)}, lambda left, right: np.concatenate([left, right], axis=1)
    )
    product = x @ matrix + graph.tensor("bias", 30)
    mask = (graph.count(x.size(0)) < count).expand_dims(1)
    total = product.where(mask, 0.0).sum(0)
    graph.output("total", total, 1, 30)
    graph.output("less", (1 - total).clamp(min=-1.5).apply("LeakyRelu", alpha=0.25), 1, 30)
    return graph


@pytest.fixture
def tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = make_graph().shapes
    assert shapes == {"left": (40, 10), "right": (40, 20), "bias": (30,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_onnx_reads_and_checks_the_file(tensors: dict[str, np.ndarray]) -> None:
    graph = make_graph()
    arrays = graph.arrays(tensors)
    model = onnx.load_from_string(graph.to_bytes(arrays, metadata={"name": "É", "empty": ""}))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"name": "É", "empty": ""}
    stored = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
    lengths = [
        [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in model.graph.input
    ]
    assert lengths == [["B", 40], []]


@pytest.mark.parametrize("external", [False, True])
def test_onnxruntime_computes_it(
    tensors: dict[str, np.ndarray], rng: np.random.Generator, tmp_path: Path, external: bool
) -> None:
    graph = make_graph()
    arrays = graph.arrays(tensors)
    content = graph.to_bytes(arrays, external=external)
    assert is_external(arrays["matrix"]) and (arrays["matrix"].tobytes() in content) != external
    if external:
        compute = open_graph(graph, tensors)
    else:
        (tmp_path / "graph.onnx").write_bytes(content)
        compute = partial(open_session(tmp_path / "graph.onnx").run, None)
    x = rng.standard_normal((5, 40)).astype(np.float32)
    expected = (x @ np.concatenate([tensors["left"], tensors["right"]], axis=1) + tensors["bias"])[:3].sum(axis=0)
    total, less = compute({"x": x, "count": np.array(3)})
    np.testing.assert_allclose(total[0], expected, rtol=1e-4, atol=1e-4)
    limited = np.maximum(1 - expected, -1.5)
    np.testing.assert_allclose(less[0], np.where(limited < 0, 0.25 * limited, limited), rtol=1e-4, atol=1e-4)


def test_operators_are_those_of_python(rng: np.random.Generator) -> None:
    graph = Graph()
    n = graph.input("n", np.int64, "N")
    results = {
        "divided": (n + 7) // 3,
        "rest": (n - 4) % 5,
        "product": n * -300,
        "difference": n - n.size(0),
        "smallest": n.minimum(np.int64(2)),
        "padded": n.pad(0, 1, 2, n.size(0)),
        "part": n.slice(0, 1, 3),
        "reversed": n.reshape(2, -1).transpose(1, 0).reshape(-1),
        "numbers": graph.count(n.size(0), start=-1),
    }
    for name, value in results.items():
        graph.output(name, value, name)
    numbers = np.array([0, 1, 2, 3, 40, 2**40])
    found = dict(zip(results, open_graph(graph, {})({"n": numbers}), strict=True))
    expected = {
        "divided": (numbers + 7) // 3,
        "rest": (numbers - 4) % 5,
        "product": numbers * -300,
        "difference": numbers - 6,
        "smallest": np.minimum(numbers, 2),
        "padded": np.pad(numbers, (2, 6)),
        "part": numbers[1:3],
        "reversed": numbers.reshape(2, -1).T.ravel(),
        "numbers": np.arange(6) - 1,
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
