"""What the machine at hand can do."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Device:
    """Where and how a network is computed.

    Attributes:
        device: `cpu` or `cuda`.
        bf16: whether training runs under bfloat16 autocast (weights, sums and the loss stay float32).

    """

    device: torch.device
    bf16: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout for training this kind of network.

        In a trial on a CPU with AVX512-BF16 the plain layout was the faster one in bf16, and channels_last in
        fp32. On a GPU it has not been measured; channels_last is what its convolutions are made for.
        """
        if self.device.type == "cpu" and self.bf16:
            return torch.contiguous_format
        return torch.channels_last

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
