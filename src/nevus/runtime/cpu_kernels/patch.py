"""A network's modules exchanged for quick ones."""

from __future__ import annotations

from torch import nn

from nevus.models.timm_library import GroupNormAct, StdConv2d
from nevus.runtime.allocator import retain_heap
from nevus.runtime.cpu_kernels import openmp as pool
from nevus.runtime.cpu_kernels.compile import ensure_compiled
from nevus.runtime.cpu_kernels.group_norm import CPUGroupNorm
from nevus.runtime.cpu_kernels.weight_standardization import CPUStdConv2d

QUICK: dict[type[nn.Module], type[nn.Module]] = {GroupNormAct: CPUGroupNorm, StdConv2d: CPUStdConv2d}


def use_cpu_kernels(network: nn.Module) -> bool:
    """Exchange the norms and convolutions of a BiT on a CPU for quick ones, in place.

    Parameters, their names and what is computed stay; only sums are taken in another order. Made for
    channels_last; each module goes the usual way on another device or with another type of number.

    Returns:
        Whether there was something to exchange, and this machine can run it.

    """
    if not pool.available():
        return False
    found = False
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in QUICK:  # not of a subclass, which computes something else
                setattr(parent, name, _as(QUICK[type(child)], child))
                found = True
    if found:
        ensure_compiled()
        retain_heap()
    return found


def _as(kind: type[nn.Module], module: nn.Module) -> nn.Module:
    quick = kind.__new__(kind)
    quick.__dict__.update(module.__dict__)  # parameters are shared, so an optimizer keeps its hold on them
    return quick
