"""What is used of timm, importable beside a CPU build of torch.

timm imports torchvision, which `nevus._torchvision` makes importable first.
"""

import nevus._torchvision  # noqa: F401 - before timm imports torchvision

import timm  # isort: skip
from timm.layers import (  # isort: skip
    BatchNormAct2d,
    ClassifierHead,
    GroupNormAct,
    ScaledStdConv2d,
    StdConv2d,
    create_conv2d,
)
from timm.models.resnet import Bottleneck, ResNet  # isort: skip
from timm.models.resnetv2 import ResNetV2  # isort: skip

__all__ = [
    "BatchNormAct2d",
    "Bottleneck",
    "ClassifierHead",
    "GroupNormAct",
    "ResNet",
    "ResNetV2",
    "ScaledStdConv2d",
    "StdConv2d",
    "create_conv2d",
    "timm",
]
