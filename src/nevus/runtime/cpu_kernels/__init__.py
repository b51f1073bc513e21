"""Kernels for training and running BiT on a CPU: what PyTorch leaves slow in the layout that convolutions like."""

from nevus import _torchvision as _torchvision  # must come before timm
