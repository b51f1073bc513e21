"""Test-time augmentation: the mean of the logits over several transforms of each image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nevus.errors import NevusError
from nevus.runtime.engines import Engine

TTAPolicy = Literal["none", "flip", "crop-color", "invariant", "d4", "all"]
"""Which transforms are averaged:

- `none`: the image itself, 1 view.
- `flip`: the image and its horizontal flip, 2 views.
- `crop-color`: the full image and its center crop, each with and without color constancy, 4 views.
- `invariant`: the full image, its center crop, and the crop rotated by 90 degrees, each in gray and with standardized
  colors, 6 views. Nothing of a source's color and contrast is left.
- `d4`: the eight rotations and reflections of the square, 8 views.
- `all`: `crop-color` times `d4`, 32 views.
"""

CROP = 0.7
"""Side of the center crop, as a share of the image's."""
NORM = 6
"""Minkowski norm of *shades of gray*."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
TARGET_MEAN, TARGET_STD = (180.0, 140.0, 135.0), (32.0, 36.0, 38.0)
"""Mean and standard deviation of red, green and blue of a standardized image: set by eye, near what every 40th image
of HAM10000 has on average, (195, 140, 146) and (23, 30, 34)."""

Pixels = NDArray[np.uint8]


def tta_views(pixels: Pixels, policy: TTAPolicy) -> list[Pixels]:
    """Transform images.

    Args:
        pixels: uint8 (n, image_size, image_size, 3).
        policy: see `TTAPolicy`.

    Returns:
        A list with a uint8 array (n, image_size, image_size, 3) for each transform.

    Raises:
        NevusError: there is no such policy.

    """
    check_policy(policy)
    if policy == "invariant":
        crop = _center_crop(pixels)
        rotated = crop.swapaxes(1, 2)[:, ::-1]
        return [view for image in (pixels, crop, rotated) for view in (_gray(image), _standard_colors(image))]
    views = [pixels]
    if policy == "flip":
        views.append(pixels[:, :, ::-1])
    if policy in ("crop-color", "all"):
        views = [view for image in (pixels, _center_crop(pixels)) for view in (image, _color_constancy(image))]
    if policy in ("d4", "all"):
        views = [view for image in views for view in _dihedral(image)]
    return views


def check_policy(policy: str) -> None:
    """Refuse a policy that does not exist.

    Raises:
        NevusError: it does not.

    """
    if policy not in get_args(TTAPolicy):
        raise NevusError(
            f"Cannot augment at test time: there is no policy '{policy}'. Choose one of "
            f"{', '.join(get_args(TTAPolicy))} for --tta."
        )


@cache
def view_count(policy: TTAPolicy) -> int:
    """Return the number of transforms of a policy."""
    return len(tta_views(np.zeros((1, 4, 4, 3), np.uint8), policy))


def _dihedral(pixels: Pixels) -> list[Pixels]:
    flipped = [view for image in (pixels, pixels.swapaxes(1, 2)) for view in (image, image[:, ::-1])]
    return [view for image in flipped for view in (image, image[:, :, ::-1])]


def _center_crop(pixels: Pixels) -> Pixels:
    """Cut the center out and enlarge it to the whole, bilinear."""
    size = pixels.shape[1]
    part = max(1, round(CROP * size))
    start = (size - part) // 2
    cut = pixels[:, start : start + part, start : start + part].astype(np.float32)
    place = (np.float64(np.float32(part / size)) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    place = np.maximum(place, 0)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, part - 1)
    far = (place - low.astype(np.float32))[:, None]
    across = _blend(cut[:, :, low], cut[:, :, high], far)
    grown = _blend(across[:, low], across[:, high], far[:, None])
    return _as_pixels(grown)


def _blend(near: NDArray[np.float32], far: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate with the roundings of PyTorch's `interpolate`: two float32 products, one of them fused with the sum.

    So pixels are the same to the bit wherever an image is cropped, on whatever machine.
    """
    rounded = (far * share).astype(np.float64)
    return (near.astype(np.float64) * (1 - share).astype(np.float64) + rounded).astype(np.float32)


def _color_constancy(pixels: Pixels) -> Pixels:
    """Remove the color of the light: *shades of gray* (Finlayson and Trezzi 2004)."""
    x = pixels.astype(np.float32) / 255
    square = x * x
    light = _mean(square * square * square) ** np.float32(1 / NORM)
    gain = light.mean(3, keepdims=True) / np.maximum(light, 1 / 255)
    return _as_pixels(255 * x * gain)


def _gray(pixels: Pixels) -> Pixels:
    luminance = (pixels.astype(np.float32) * np.array(LUMINANCE, np.float32)).sum(3, keepdims=True)
    return np.repeat(_as_pixels(luminance), 3, axis=3)


def _standard_colors(pixels: Pixels) -> Pixels:
    """Give each color channel the mean `TARGET_MEAN` and the standard deviation `TARGET_STD` over the image.

    One gray level is added to the standard deviation, since an empty image would become noise.
    """
    x = pixels.astype(np.float32)
    centered = x - _mean(x)
    deviation = np.sqrt(_mean(centered * centered)) + 1
    return _as_pixels(centered / deviation * np.array(TARGET_STD, np.float32) + np.array(TARGET_MEAN, np.float32))


def _mean(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Average over the pixels, summed in float64: float32 sums of so many values are off by gray levels."""
    return np.asarray(values.mean((1, 2), dtype=np.float64, keepdims=True), np.float32)


def _as_pixels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def untransform(maps: Sequence[NDArray[np.float64]], policy: TTAPolicy) -> list[NDArray[np.float64]]:
    """Move maps of the transformed images back to where their pixels come from.

    Args:
        maps: one float64 array (n, size, size) for each view, in the order of `tta_views`.
        policy: see `TTAPolicy`.

    Returns:
        Arrays of the same shapes and the same sums; what lies outside a crop is 0.

    """
    check_policy(policy)
    if policy == "invariant":
        full, crop, rotated = maps[:2], maps[2:4], maps[4:]
        turned = [one[:, ::-1].swapaxes(1, 2) for one in rotated]
        return [*full, *(_uncrop(one) for one in (*crop, *turned))]
    if policy == "flip":
        return [maps[0], maps[1][:, :, ::-1]]
    if policy == "crop-color":
        return [*maps[:2], *map(_uncrop, maps[2:])]
    if policy == "d4":
        return _undihedral(maps)
    if policy == "all":
        back = [one for k in range(4) for one in _undihedral(maps[8 * k : 8 * k + 8])]
        return [*back[:16], *map(_uncrop, back[16:])]
    return list(maps)


def _undihedral(maps: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    back = []
    for k, one in enumerate(maps):  # the bits of k: transposed, then flipped vertically, then horizontally
        one = one[:, :, ::-1] if k & 1 else one
        one = one[:, ::-1] if k & 2 else one
        back.append(one.swapaxes(1, 2) if k & 4 else one)
    return back


def _uncrop(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shrink maps to the center that `_center_crop` enlarged; sums are kept."""
    size = maps.shape[1]
    part = max(1, round(CROP * size))
    start = (size - part) // 2
    edge = np.linspace(0, size, part + 1)
    # Integrate, and take differences at the edges of the smaller pixels: each gets the mass that falls into it.
    total = np.pad(maps.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    low = np.minimum(edge.astype(int), size - 1)
    share = edge - low
    rows = total[:, low] + (total[:, low + 1] - total[:, low]) * share[:, None]
    both = rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * share
    back = np.zeros_like(maps)
    back[:, start : start + part, start : start + part] = np.diff(np.diff(both, axis=1), axis=2)
    return back


class TTAStack:
    """The outputs of an engine for each view, concatenated in the order of `tta_views`."""

    def __init__(self, engine: Engine, policy: TTAPolicy) -> None:
        check_policy(policy)
        self._engine, self._policy = engine, policy

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to float32 (n, views x outputs)."""
        return np.concatenate(self._outputs(pixels), axis=1)

    def _outputs(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        return [self._engine(np.ascontiguousarray(view)) for view in tta_views(pixels, self._policy)]


class TTAMean(TTAStack):
    """The mean output of an engine over the views, at as many times the cost."""

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the mean output, float32 (n, outputs)."""
        return np.asarray(np.mean([out.astype(np.float64) for out in self._outputs(pixels)], axis=0), np.float32)


def with_tta(engine: Engine, policy: TTAPolicy) -> Engine:
    """Return an engine that averages over the views of a policy."""
    return engine if policy == "none" else TTAMean(engine, policy)


def split_views(outputs: NDArray[np.float32], policy: TTAPolicy) -> NDArray[np.float32]:
    """Split what `TTAStack` gave, float32 (n, views x outputs), by view: (views, n, outputs)."""
    return outputs.reshape(len(outputs), view_count(policy), -1).swapaxes(0, 1)
