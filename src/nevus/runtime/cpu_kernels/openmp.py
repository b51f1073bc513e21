"""PyTorch's own threads, for kernels that are not PyTorch's.

A second pool of threads would fight with the first one for the cores: an OpenMP thread that has done its part
spins for milliseconds in wait for the next. So the kernels run in the pool that PyTorch's operators run in,
through the entry point that compilers use (GCC's `GOMP_parallel`; LLVM's and Intel's OpenMP have it, too).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import cfunc
from threadpoolctl import threadpool_info
from torch import Tensor

from nevus.runtime.cpu_kernels.intrinsics import KERNEL


@lru_cache(maxsize=1)
def _parallel() -> Any:
    home = Path(torch.__file__).parent
    found = [i["filepath"] for i in threadpool_info() if i["user_api"] == "openmp"]
    for path in sorted(found, key=lambda path: home not in Path(path).parents):  # its own first
        try:
            parallel = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


def available() -> bool:
    """Whether kernels can run here: PyTorch's OpenMP library was found."""
    return _parallel() is not None


@lru_cache(maxsize=64)
def compiled(kernel: Callable[[Any], None]) -> Any:
    """Compile a kernel (seconds), or load it from beside the source or the user's cache."""
    try:
        return cfunc(KERNEL, cache=True)(kernel)
    except RuntimeError:  # neither can be written
        return cfunc(KERNEL)(kernel)


def run(kernel: Callable[[Any], None], *arguments: int | float | Tensor) -> None:
    """Run a kernel in every thread of the pool and wait.

    Args:
        kernel: `(a: int64 pointer)`, compiled by numba. `a[0]` counts the pieces taken (`words.take`); the
            arguments follow: integers as they are, floats as the bits of a float64, tensors as addresses.
        arguments: tensors must be contiguous in the layout that the kernel expects.

    """
    packed = np.zeros(1 + len(arguments), np.int64)
    for place, argument in enumerate(arguments, 1):
        if isinstance(argument, Tensor):
            packed[place] = argument.data_ptr()
        elif isinstance(argument, float):
            packed[place : place + 1].view(np.float64)[0] = argument
        else:
            packed[place] = argument
    _parallel()(compiled(kernel).address, packed.ctypes.data, torch.get_num_threads(), 0)
