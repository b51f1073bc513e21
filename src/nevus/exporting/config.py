"""Formats of an export, and how far it may differ from the bundle."""

from __future__ import annotations

from typing import Literal

Format = Literal["onnx", "openvino", "torch"]
"""Format of the file."""
BOUND = 1e-3
"""Default of the largest difference of a probability from the bundle's at which an fp32 export is written."""
