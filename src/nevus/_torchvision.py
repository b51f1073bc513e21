"""torchvision, importable beside a CPU build of torch.

The torchvision wheel that plain pip installs is built for CUDA. Beside a CPU build of torch its compiled
operators cannot be loaded, and the import dies when it describes two of them ("operator torchvision::nms does
not exist"). Nothing here or in timm's classification networks calls those operators, so where that happens
they are declared, without an implementation, and the import is tried again.
"""

from __future__ import annotations

import sys

import torch

from nevus._progress import ignored_warnings

_KEPT: list[torch.library.Library] = []  # a Library takes its declarations along when it is collected


def _import() -> None:
    with ignored_warnings():  # "failed to load image extension": decoding is Pillow's here
        import torchvision  # noqa: F401 - whether it can be imported is the question


try:
    _import()
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _KEPT.append(library)
    _import()

from torchvision.transforms.v2 import functional  # noqa: E402 - after the operators are declared

__all__ = ["functional"]
