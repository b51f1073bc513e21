"""What the machine at hand can do."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
from dataclasses import dataclass, replace

import torch
from torch import nn

from nevus.runtime.precision import Precision


@dataclass(frozen=True)
class Device:
    """Where and how a network is computed.

    Attributes:
        device: `cpu` or `cuda`.
        bf16: whether training runs under bfloat16 autocast (weights, sums and the loss stay float32).
        memory_format: layout of images and weights; see `to_device`.

    """

    device: torch.device
    bf16: bool
    memory_format: torch.memory_format = torch.channels_last

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context in which a training step's forward pass runs."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def device(precision: Precision = "auto") -> Device:
    """The device to train on: a GPU where there is one, and bf16 where the machine has it in hardware.

    Args:
        precision: `auto`, or one to insist on.

    """
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Device(where, has_bf16(where) if precision == "auto" else precision == "bf16")


def to_device(network: nn.Module, where: Device) -> Device:
    """Bring a network to a device for training, in place, in the layout that is the faster one there.

    Convolutions are fastest in channels_last. PyTorch's group normalization is slow in it on a CPU, and a network
    that keeps that one there, while it computes in bf16, is better off in the plain layout; `benchmarks/` measures
    both. On a GPU channels_last is what the convolutions are made for.

    Returns:
        The device with the network's layout.

    """
    layout = torch.channels_last
    if where.device.type == "cpu" and not _use_cpu_kernels(network) and where.bf16:
        layout = torch.contiguous_format
    network.to(device=where.device, memory_format=layout)  # type: ignore[call-overload]
    return replace(where, memory_format=layout)


def _use_cpu_kernels(network: nn.Module) -> bool:
    """Use the custom CPU kernels where numba, which compiles them, is installed."""
    if importlib.util.find_spec("numba") is None:
        return False
    from nevus.runtime.cpu_kernels.patch import use_cpu_kernels

    return use_cpu_kernels(network)


def machine() -> dict[str, str | int]:
    """What figures of speed were measured on."""
    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else torch.cpu.get_capabilities().get("cpu_name", "")
    return {"device": str(name) or platform.machine(), "threads": torch.get_num_threads()}


def has_bf16(where: torch.device) -> bool:
    """Whether bfloat16 products run in hardware there (elsewhere they are emulated, and slow)."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16") or abilities.get("amx_tile"))
