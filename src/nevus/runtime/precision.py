"""The precision of a training."""

from __future__ import annotations

from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]
"""auto is bf16 where the machine computes in it, else fp32."""
