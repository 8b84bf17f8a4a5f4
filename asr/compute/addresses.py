"""Make arrays from addresses in compiled code: machine code takes only integers as arguments."""

from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.core.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_OPTIONS: dict[str, Any] = {"_nrt": False, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
compiled: Any = numba.njit(**_OPTIONS)
"""Decorator that compiles a kernel, or a function that kernels call."""


def _array_at(typing_context, address, dtype, shape):
    """The array of a dtype and shape that begins at an address."""
    array = types.Array(dtype.dtype, len(shape), "C")

    def generate(context, builder, signature, arguments):
        lengths = [builder.extract_value(arguments[2], axis) for axis in range(array.ndim)]
        return _make(context, builder, array, arguments[0], lengths)

    return array(types.int64, dtype, shape), generate


def _array_from(typing_context, address, dtype):
    """The array of a dtype that begins at an address; its length is unknown."""
    array = types.Array(dtype.dtype, 1, "C")

    def generate(context, builder, signature, arguments):
        return _make(context, builder, array, arguments[0], [context.get_constant(types.intp, 0)])

    return array(types.int64, dtype), generate


def _make(context, builder, array, address, lengths):
    result = make_array(array)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    strides = [size]
    for length in reversed(lengths[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(
        result,
        data=builder.inttoptr(address, result.data.type),
        shape=lengths,
        strides=strides,
        itemsize=size,
        meminfo=None,
    )
    return result._getvalue()


array_at: Any = intrinsic(_array_at)
array_from: Any = intrinsic(_array_from)
