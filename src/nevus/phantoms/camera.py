"""What stands between a lesion and its image: dermoscope, gel, hair, ruler, light and sensor."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nevus.data.images import Pixels
from nevus.phantoms.textures import Field, blend, smoothstep


@dataclass(frozen=True)
class Capture:
    """How one image of a lesion is taken. Nothing of it depends on the lesion.

    Attributes:
        turn: degrees.
        zoom: magnification.
        shift_x: of the lesion, as a share of the image's side; likewise `shift_y`.
        hairs: number.
        bubbles: number of gel bubbles.
        vignette: darkness of the corners, 0 none, 1 the black rim of a dermoscope.
        ruler: whether ruler marks are in view.
        warmth: of the light's color, -1 blue to 1 yellow.
        exposure: factor.
        blur: radius in pixels.
        noise: standard deviation of the sensor's noise, of 255.
        quality: of the JPEG.

    """

    turn: float
    zoom: float
    shift_x: float
    shift_y: float
    hairs: int
    bubbles: int
    vignette: float
    ruler: bool
    warmth: float
    exposure: float
    blur: float
    noise: float
    quality: int

    def as_row(self) -> dict[str, float | int | bool]:
        """Columns for the manifest."""
        return asdict(self)


def draw_capture(rng: np.random.Generator) -> Capture:
    """Draw how an image is taken."""
    return Capture(
        turn=float(rng.uniform(0, 360)),
        zoom=float(rng.uniform(1.08, 1.3)),
        shift_x=float(np.clip(rng.normal(0, 0.03), -0.05, 0.05)),
        shift_y=float(np.clip(rng.normal(0, 0.03), -0.05, 0.05)),
        hairs=int(rng.poisson(9)) if rng.random() < 0.45 else 0,
        bubbles=int(rng.integers(1, 9)) if rng.random() < 0.3 else 0,
        vignette=float(rng.choice([0.0, 0.35, 1.0], p=[0.4, 0.4, 0.2])),
        ruler=bool(rng.random() < 0.18),
        warmth=float(rng.normal(0, 0.5)),
        exposure=float(rng.uniform(0.88, 1.1)),
        blur=float(rng.uniform(0, 0.9)),
        noise=float(rng.uniform(0.8, 3.5)),
        quality=int(rng.integers(82, 96)),
    )


def capture(scene: Field, how: Capture, rng: np.random.Generator, image_size: int) -> Pixels:
    """Take the image.

    Args:
        scene: float32 (s, s, 3), of which the middle two thirds fill the view at zoom 1.
        how: see `Capture`.
        rng: for the hairs' course, the noise and the like.
        image_size: of the image in pixels.

    Returns:
        uint8 (image_size, image_size, 3).

    """
    view = _framed(scene, how, image_size)
    view = _hairs(view, how, rng, image_size)
    view = _bubbles(view, how, rng, image_size)
    if how.ruler:
        view = _ruler(view, rng, image_size)
    view = _light(view, how, rng, image_size)
    if how.blur > 0.05:
        blurred = Image.fromarray(np.clip(view, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(how.blur))
        view = np.asarray(blurred).astype(np.float32)
    view = view + rng.normal(0, how.noise, view.shape)
    return np.clip(view, 0, 255).astype(np.uint8)


def _framed(scene: Field, how: Capture, image_size: int) -> Field:
    image = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    whole = image.width
    image = image.rotate(how.turn, Image.Resampling.BICUBIC)
    half = whole / 3 / how.zoom
    x, y = (whole * (0.5 - shift / 1.5) for shift in (how.shift_x, how.shift_y))
    box = (x - half, y - half, x + half, y + half)
    return np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=box)).astype(np.float32)


def _hairs(view: Field, how: Capture, rng: np.random.Generator, image_size: int) -> Field:
    if not how.hairs:
        return view
    fine = 3  # drawn large and made small, for smooth edges
    mask = Image.new("L", (image_size * fine, image_size * fine))
    pen = ImageDraw.Draw(mask)
    main = rng.uniform(0, np.pi)
    t = np.linspace(0, 1, 40)[:, None]
    for _ in range(how.hairs):
        middle = rng.uniform(-0.1, 1.1, 2)
        angle = main + rng.normal(0, 0.4)
        along = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.25, 0.7)
        bend = np.array([-along[1], along[0]]) * rng.normal(0, 0.25)
        a, b, c = middle - along, middle + 2 * bend, middle + along
        course = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        thick = image_size / 224 * rng.uniform(0.7, 1.9) * fine
        pen.line([tuple(p) for p in course * image_size * fine], fill=255, width=max(1, round(thick)), joint="curve")
    alpha = np.asarray(mask.resize((image_size, image_size), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    color = np.array([38, 26, 22], np.float32) * rng.uniform(0.6, 2.4)
    return blend(view, color, alpha * np.float32(rng.uniform(0.7, 0.95)))


def _bubbles(view: Field, how: Capture, rng: np.random.Generator, image_size: int) -> Field:
    y, x = np.mgrid[0:image_size, 0:image_size].astype(np.float32) / image_size
    for _ in range(how.bubbles):
        cx, cy = rng.random(2)
        radius = rng.uniform(0.012, 0.05)
        distance = np.hypot(x - cx, y - cy) / radius
        rim = smoothstep(-np.abs(distance - 0.92).astype(np.float32), -0.14, -0.02)
        lit = np.clip(0.5 - ((x - cx) + (y - cy)) / radius * 0.5, 0, 1)  # the light comes from the upper left
        view = blend(view, 255.0, rim * (0.15 + 0.5 * lit.astype(np.float32)))
        view = blend(view, 0.0, rim * (0.22 * (1 - lit.astype(np.float32))))
        gleam = smoothstep(-np.hypot(x - cx + 0.4 * radius, y - cy + 0.4 * radius) / radius, -0.3, -0.1)
        view = blend(view, 255.0, np.asarray(gleam * 0.85, np.float32))
    return view


def _ruler(view: Field, rng: np.random.Generator, image_size: int) -> Field:
    mask = Image.new("L", (2 * image_size, 2 * image_size))
    pen = ImageDraw.Draw(mask)
    base = round(2 * image_size * rng.uniform(0.90, 0.96))
    pitch = 2 * image_size * rng.uniform(0.035, 0.06)
    start = rng.uniform(0, pitch)
    for number in range(int(2 * image_size / pitch) + 1):
        x = start + number * pitch
        length = 2 * image_size * (0.06 if number % 5 == 0 else 0.03)
        pen.line([(x, base), (x, base - length)], fill=255, width=max(1, image_size // 90))
    pen.line([(0, base), (2 * image_size, base)], fill=255, width=max(1, image_size // 110))
    turned = mask.rotate(float(rng.choice([0, 90, 180, 270])))
    alpha = np.asarray(turned.resize((image_size, image_size), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    return blend(view, 22.0, alpha * 0.85)


def _light(view: Field, how: Capture, rng: np.random.Generator, image_size: int) -> Field:
    y, x = np.mgrid[0:image_size, 0:image_size].astype(np.float32) / image_size - 0.5
    slope = rng.normal(0, 0.10, 2)
    fall = 1 + slope[0] * x + slope[1] * y
    distance = np.hypot(x - rng.normal(0, 0.02), y - rng.normal(0, 0.02)).astype(np.float32)
    if how.vignette == 1:
        # The round stop of the dermoscope: bright inside, black outside, with a narrow soft rim.
        fall = fall * (1 - smoothstep(distance, 0.485, 0.525) * 0.985) * (1 - 0.25 * smoothstep(distance, 0.25, 0.55))
    else:
        fall = fall * (1 - how.vignette * smoothstep(distance, 0.2, 0.75))
    color = np.array([1 + 0.03 * how.warmth, 1.0, 1 - 0.06 * how.warmth], np.float32)
    return np.asarray(view * fall[..., None] * color * how.exposure, np.float32)
