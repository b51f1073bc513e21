"""Test-time augmentation as a part of an exported graph: the transforms of `nevus.runtime.tta` in PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nevus.runtime.tta import CROP, LUMINANCE, NORM, TARGET_MEAN, TARGET_STD, TTAPolicy, check_policy


def tta_views(pixels: Tensor, policy: TTAPolicy) -> list[Tensor]:
    """Transform images, uint8 (n, image_size, image_size, 3), as `nevus.runtime.tta.tta_views` does.

    Raises:
        NevusError: there is no such policy.

    """
    check_policy(policy)
    if policy == "invariant":
        crop = _center_crop(pixels)
        rotated = crop.transpose(1, 2).flip(1)
        return [view for image in (pixels, crop, rotated) for view in (_gray(image), _standard_colors(image))]
    views = [pixels]
    if policy == "flip":
        views.append(pixels.flip(2))
    if policy in ("crop-color", "all"):
        views = [view for image in (pixels, _center_crop(pixels)) for view in (image, _color_constancy(image))]
    if policy in ("d4", "all"):
        views = [view for image in views for view in _dihedral(image)]
    return views


def _dihedral(pixels: Tensor) -> list[Tensor]:
    flipped = [view for image in (pixels, pixels.transpose(1, 2)) for view in (image, image.flip(1))]
    return [view for image in flipped for view in (image, image.flip(2))]


def _center_crop(pixels: Tensor) -> Tensor:
    size = int(pixels.shape[1])  # a tensor while a graph is traced
    part = max(1, round(CROP * size))
    start = (size - part) // 2
    cut = pixels[:, start : start + part, start : start + part].permute(0, 3, 1, 2).float()
    grown = F.interpolate(cut, size=(size, size), mode="bilinear", align_corners=False)
    return grown.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _color_constancy(pixels: Tensor) -> Tensor:
    x = pixels.float() / 255
    light = x.pow(NORM).mean((1, 2), keepdim=True).pow(1 / NORM)
    gain = light.mean(3, keepdim=True) / light.clamp_min(1 / 255)
    return (255 * x * gain).round().clamp(0, 255).to(torch.uint8)


def _gray(pixels: Tensor) -> Tensor:
    luminance = (pixels.float() * torch.tensor(LUMINANCE)).sum(3, keepdim=True)
    return luminance.round().clamp(0, 255).to(torch.uint8).expand(-1, -1, -1, 3)


def _standard_colors(pixels: Tensor) -> Tensor:
    x = pixels.float()
    centered = x - x.mean((1, 2), keepdim=True)
    deviation = centered.square().mean((1, 2), keepdim=True).sqrt() + 1
    colored = centered / deviation * torch.tensor(TARGET_STD) + torch.tensor(TARGET_MEAN)
    return colored.round().clamp(0, 255).to(torch.uint8)
