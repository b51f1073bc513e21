"""What an export can be."""

from __future__ import annotations

from typing import Literal

Format = Literal["onnx", "openvino", "torch"]
"""Format of the file."""
BOUND = 1e-3
"""Largest difference of a probability from the bundle's at which an fp32 export is written, by default."""
