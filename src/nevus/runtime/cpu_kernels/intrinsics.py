"""What the kernels read and write: float32, and bfloat16 as the upper 16 of a float32's bits, at addresses."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
"""Sums may be taken in any order; NaN and infinities stay what they are, for the loss must show them."""

KERNEL = types.void(types.CPointer(types.int64))
"""C signature of a kernel; see `pool.run`."""

_BITS, _FLOAT = ir.IntType(32), ir.FloatType()


@intrinsic
def load(_context: Any, value: Any) -> Any:
    """float32 of a float32 or of a bfloat16's bits; exact."""

    def code(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        wide = builder.zext(arguments[0], _BITS)
        return builder.bitcast(builder.shl(wide, ir.Constant(_BITS, 16)), _FLOAT)

    return types.float32(value), code


@intrinsic
def like(_context: Any, value: Any, witness: Any) -> Any:
    """A float32 in the witness' type: itself, or bfloat16's bits, rounded to nearest, ties to even."""

    def code(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[1] == types.float32:
            return arguments[0]
        bits = builder.bitcast(arguments[0], _BITS)
        odd = builder.and_(builder.lshr(bits, ir.Constant(_BITS, 16)), ir.Constant(_BITS, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(_BITS, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(_BITS, 16)), ir.IntType(16))

    return witness(types.float32, witness), code


@intrinsic
def real(_context: Any, _bits: Any) -> Any:
    """float64 of its 64 bits."""

    def code(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), code


@intrinsic
def take(_context: Any, _address: Any) -> Any:
    """Add 1 to the int64 at an address, as one step for all threads; its value before."""

    def code(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), code


@intrinsic
def _pointer(_context: Any, _address: Any, witness: Any) -> Any:
    def code(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        item = _FLOAT if signature.args[1] == types.float32 else ir.IntType(16)
        return builder.inttoptr(arguments[0], item.as_pointer())

    return types.CPointer(witness)(types.int64, witness), code


@njit
def matrix(address, rows, columns, witness):  # noqa: ANN001, ANN201
    """(rows, columns) at an address, of the witness' type: float32, or uint16 for bfloat16's bits."""
    return carray(_pointer(address, witness), (rows, columns))
