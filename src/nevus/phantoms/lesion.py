"""A lesion on its skin, seen from above, before any camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nevus.phantoms.abcd import COLORS, STRUCTURES, AbcdParameters
from nevus.phantoms.textures import Field, blend, field, smoothstep

SKIN = np.array(
    [(243, 205, 190), (233, 189, 168), (216, 168, 142), (184, 134, 106), (141, 98, 75), (92, 62, 48)],
    np.float32,
)
"""sRGB of Fitzpatrick types I to VI under a dermoscope's light."""

# Pigment absorbs: a share of the skin's red, green and blue is left. Blue-gray and white scatter, so that they
# also bring light of their own, by the share in the fourth place.
_PIGMENT = {
    "light-brown": ((0.76, 0.60, 0.47), None, 0.0),
    "dark-brown": ((0.45, 0.31, 0.26), None, 0.0),
    "black": ((0.17, 0.13, 0.13), None, 0.0),
    "red": ((0.93, 0.55, 0.53), None, 0.0),
    "blue-gray": ((0.46, 0.50, 0.58), (118, 131, 156), 0.5),
    "white": ((0.97, 0.92, 0.92), (236, 226, 222), 0.62),
}


@dataclass(frozen=True)
class Lesion:
    """A phantom lesion's description, from which it is drawn.

    Attributes:
        abcd: its parameters.
        skin: Fitzpatrick type, 1.0 to 6.0; between two types their colors mix.
        colors: names, `abcd.colors` of them.
        structures: names, `abcd.structures` of them.
        size: mean radius as a share of the field of view.

    """

    abcd: AbcdParameters
    skin: float
    colors: tuple[str, ...]
    structures: tuple[str, ...]
    size: float


def describe(abcd: AbcdParameters, rng: np.random.Generator) -> Lesion:
    """Sample what the parameters leave open: which colors and structures, skin and size.

    None of it is related to malignancy, given the parameters.
    """
    base = [COLORS[int(rng.random() < 0.4)]]
    others = [c for c in COLORS if c not in base]
    colors = (*base, *(str(c) for c in rng.permutation(others)[: abcd.colors - 1]))
    structures = tuple(str(s) for s in rng.permutation(STRUCTURES)[: abcd.structures])
    return Lesion(abcd, float(rng.uniform(1, 6)), colors, structures, float(rng.uniform(0.44, 0.68)))


def draw(lesion: Lesion, rng: np.random.Generator, image_size: int) -> Field:
    """Draw skin and lesion.

    Args:
        lesion: its description.
        rng: for the texture.
        image_size: in pixels; the field of view is the middle two thirds, the rest is there to be turned into view.

    Returns:
        float32 (image_size, image_size, 3), values 0 to 255.

    """
    axis = np.linspace(-1.5, 1.5, image_size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    image = _skin(lesion, rng, image_size)
    depth, theta, radius = _outline(lesion, rng, x, y, image_size)
    alpha = _border(lesion, rng, depth, theta)
    pigment = _pigment(lesion, rng, image, x, y, radius, image_size)
    pigment = _structures(lesion, rng, pigment, depth, theta, x, y, image_size)
    return blend(image, pigment, alpha)


def _skin(lesion: Lesion, rng: np.random.Generator, image_size: int) -> Field:
    place = lesion.skin - 1
    low = min(int(place), 4)
    color = SKIN[low] + (SKIN[low + 1] - SKIN[low]) * (place - low)
    image = np.broadcast_to(color, (image_size, image_size, 3)).astype(np.float32)
    # Mottling by blood (red stays, green and blue go), then by melanin (all go), then pores and furrows.
    blood = field(rng, image_size, 0.16) * 0.020 + field(rng, image_size, 0.05) * 0.012
    image = image * (1 - blood[..., None] * np.array([0.3, 1.2, 1.0], np.float32))
    melanin = field(rng, image_size, 0.25) * 0.022 + field(rng, image_size, 0.02) * 0.012
    image = image * (1 - melanin[..., None])
    warp = field(rng, image_size, 0.08) * 0.02
    axis = np.linspace(-1.5, 1.5, image_size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    furrows = np.zeros((image_size, image_size), np.float32)
    for angle in rng.uniform(0, np.pi, 3):
        furrows += np.abs(np.sin((x * np.cos(angle) + y * np.sin(angle) + warp) * rng.uniform(34, 52))) ** 8
    return np.asarray(image * (1 - 0.022 * furrows[..., None]), np.float32)


def _outline(
    lesion: Lesion, rng: np.random.Generator, x: Field, y: Field, image_size: int
) -> tuple[Field, Field, Field]:
    """Depth below the edge (positive inside, in units of the radius), angle, and distance from the center."""
    asymmetry = lesion.abcd.asymmetry
    theta = np.arctan2(y, x)
    stretch = float(rng.uniform(1.0, 1.3))
    distance = np.hypot(x / stretch, y * stretch)
    edge = np.ones_like(theta) + 0.05 * rng.uniform(-1, 1) * np.cos(4 * theta)
    if asymmetry >= 1:  # odd cosines keep the mirror about the x axis and break the one about the y axis
        for k in (1, 3, 5):
            edge += rng.choice([-1, 1]) * rng.uniform(0.08, 0.15) / k**0.3 * np.cos(k * theta)
    if asymmetry == 2:
        for k in (2, 3, 5, 7):
            edge += rng.choice([-1, 1]) * rng.uniform(0.07, 0.13) / k**0.3 * np.sin(k * theta)
    ripple = field(rng, image_size, 0.04) * 0.018
    depth = lesion.size * edge * (1 + ripple) - distance
    return (
        np.asarray(depth / lesion.size, np.float32),
        theta.astype(np.float32),
        np.asarray(distance / lesion.size, np.float32),
    )


def _border(lesion: Lesion, rng: np.random.Generator, depth: Field, theta: Field) -> Field:
    """Opacity of the lesion: each of eight segments ends abruptly or fades."""
    abrupt = rng.permutation(np.arange(8) < lesion.abcd.border).astype(np.float32)
    place = (theta / (2 * np.pi) % 1) * 8
    low = np.floor(place).astype(int) % 8
    mix = smoothstep((place % 1).astype(np.float32), 0.35, 0.65)
    share = abrupt[low] * (1 - mix) + abrupt[(low + 1) % 8] * mix
    width = 0.30 * (1 - share) + 0.035 * share
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * (depth - 0.35 * width) / width, -30, 30))), np.float32) * 0.97


def _colored(skin: Field, name: str) -> Field:
    left, own, share = _PIGMENT[name]
    made = skin * np.array(left, np.float32)
    if own is not None:
        # Scattered light is limited by the light that reaches it: less in dark skin.
        light = 0.55 + 0.45 * skin.mean() / 200
        made = made * (1 - share) + np.array(own, np.float32) * light * share
    return np.asarray(made, np.float32)


def _pigment(
    lesion: Lesion, rng: np.random.Generator, skin: Field, x: Field, y: Field, radius: Field, image_size: int
) -> Field:
    """The lesion's ground in all its colors; patches lie symmetric or not, as A wants."""
    image = _colored(skin, lesion.colors[0])
    shade = field(rng, image_size, 0.12) * 0.05 + field(rng, image_size, 0.03) * 0.03
    image = image * (1 - shade[..., None] - 0.10 * smoothstep(-radius, -0.8, 0.0)[..., None])
    asymmetry = lesion.abcd.asymmetry
    for name in lesion.colors[1:]:
        wobble = field(rng, image_size, 0.10) * 0.14 + field(rng, image_size, 0.03) * 0.05
        if asymmetry == 0:  # rings and centers are symmetric about both axes
            where = rng.uniform(0.0, 0.75)
            patch = smoothstep(-np.abs(radius - where) + 0.45 * wobble, -0.30, -0.06)
        else:
            angle = rng.uniform(0, 2 * np.pi) if asymmetry == 2 else rng.choice([0.0, np.pi])
            away = rng.uniform(0.28, 0.62) * lesion.size
            away_x, away_y = away * np.cos(angle), away * np.sin(angle)
            reach = rng.uniform(0.30, 0.46)
            distance = np.hypot(x - away_x, y - away_y) / lesion.size
            patch = smoothstep(-distance + wobble, -reach - 0.16, -reach + 0.10)
        opacity = 0.92 if name != "blue-gray" else 0.8
        image = blend(image, _colored(skin, name), patch * opacity)
        if name == "white":  # regression: a scar with blue-gray pepper
            pepper = smoothstep(field(rng, image_size, 0.012), 1.5, 2.2) * patch
            image = blend(image, _colored(skin, "blue-gray"), pepper * 0.8)
    return np.asarray(image, np.float32)


def _structures(
    lesion: Lesion,
    rng: np.random.Generator,
    image: Field,
    depth: Field,
    theta: Field,
    x: Field,
    y: Field,
    image_size: int,
) -> Field:
    dark = image * np.array([0.42, 0.34, 0.32], np.float32)
    wide = smoothstep(depth, 0.0, 0.18)
    if "network" in lesion.structures:
        lines = _honeycomb(rng, x, y, image_size)
        where = smoothstep(field(rng, image_size, 0.2), -0.9, 0.3) * smoothstep(-depth, -0.75, -0.1)
        image = blend(image, dark, lines * where * 0.62)
    if "structureless" in lesion.structures:
        area = smoothstep(field(rng, image_size, 0.22), 0.4, 0.75) * wide
        flat: Field = np.asarray(image[depth > 0.2].mean(0) if (depth > 0.2).any() else image.mean((0, 1)))
        tone = np.asarray(flat * rng.uniform(0.75, 1.15))
        image = blend(image, tone, area * 0.88)
    if "globules" in lesion.structures:
        image = blend(image, dark * 1.15, _spots(rng, x, y, lesion.size, 0.026, 0.042, 26) * wide * 0.8)
    if "dots" in lesion.structures:
        image = blend(image, dark * 0.55, _spots(rng, x, y, lesion.size, 0.009, 0.016, 70) * wide * 0.9)
    if "streaks" in lesion.structures:
        count = int(rng.integers(26, 44))
        phase = theta * count / 2 + field(rng, image_size, 0.10) * 0.9
        rays = smoothstep(np.cos(phase).astype(np.float32) ** 2, 0.70, 0.98)
        # No two rays are as long or as dark, and a part of the rim has none.
        reach = 0.20 + 0.09 * field(rng, image_size, 0.06)
        rim = smoothstep(depth, -0.10, 0.04) * smoothstep(reach - depth, 0.0, 0.16)
        some = smoothstep(field(rng, image_size, 0.25), -1.0, 0.2)
        image = blend(image, dark * 0.9, rays * rim * some * 0.8)
    return image


def _honeycomb(rng: np.random.Generator, x: Field, y: Field, image_size: int) -> Field:
    """Lines of a pigment network: the borders of cells around the points of a jittered hexagonal grid."""
    pitch = float(rng.uniform(0.055, 0.08))
    rows, columns = np.mgrid[-36:37, -36:37]
    points = np.stack([(columns + 0.5 * (rows % 2)) * pitch, rows * pitch * 0.866], -1).reshape(-1, 2)
    points = points + rng.uniform(-0.22, 0.22, points.shape) * pitch
    from scipy.spatial import cKDTree  # only pigment networks need it

    nearest = np.asarray(cKDTree(points).query(np.stack([x, y], -1).reshape(-1, 2), k=2)[0])
    border = (nearest[:, 1] - nearest[:, 0]).reshape(image_size, image_size).astype(np.float32) / pitch
    return smoothstep(-border, -0.42, -0.08)


def _spots(rng: np.random.Generator, x: Field, y: Field, size: float, small: float, large: float, number: int) -> Field:
    """Round spots of radius `small` to `large`, scattered over the lesion."""
    count = int(rng.integers(number // 2, number))
    away = size * 0.95 * np.sqrt(rng.random(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    made = np.zeros_like(x)
    step = float(x[0, 1] - x[0, 0])
    for d, a, r in zip(away, angle, rng.uniform(small, large, count), strict=True):
        cx, cy = d * np.cos(a), d * np.sin(a)
        # only the square around the spot is touched
        left, top = (int((c + 1.5 - 2 * r) / step) for c in (cx, cy))
        reach = int(4 * r / step) + 2
        window = (slice(max(0, top), top + reach), slice(max(0, left), left + reach))
        distance = np.hypot(x[window] - cx, y[window] - cy) / r
        made[window] = np.maximum(made[window], smoothstep(-distance, -1.25, -0.7))
    return made
