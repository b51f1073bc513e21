"""A data set of phantoms, with every parameter in its manifest."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from nevus._io import atomic_path, ensure_writable
from nevus._progress import progress
from nevus.data.images import Pixels
from nevus.errors import NevusError
from nevus.phantoms.abcd import bayes_accuracy, chance_of_malignancy, draw_abcd
from nevus.phantoms.camera import Capture, capture, draw_capture
from nevus.phantoms.lesion import Lesion, describe, draw

FITZPATRICK = ("I", "II", "III", "IV", "V", "VI")
SHEET = 40


@dataclass(frozen=True)
class PhantomConfig:
    """What data set is drawn.

    Attributes:
        n: number of images to draw.
        seed: of everything.
        image_size: of the images in pixels.
        noise: of the label, in points of the total dermoscopy score; 0 makes the score decide.
        repeats: share of lesions of which there is a second image (same `group`).
        test: share of lesions in the split test.

    """

    n: int = 500
    seed: int = 0
    image_size: int = 224
    noise: float = 0.5
    repeats: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        for name, wrong in {
            "n": self.n < 1,
            "image_size": not 32 <= self.image_size <= 2048,
            "noise": not 0 <= self.noise < 100,
            "seed": self.seed < 0,
            "repeats": not 0 <= self.repeats <= 1,
            "test": not 0 <= self.test < 1,
        }.items():
            if wrong:
                flag = name.replace("_", "-")
                raise NevusError(
                    f"Cannot draw a data set with {name} {getattr(self, name)}: it is out of range. Correct --{flag}."
                )


@dataclass(frozen=True)
class Phantom:
    """One image of a phantom lesion, before it is drawn.

    Attributes:
        number: of the image.
        lesion_number: lesions with the same number are the same lesion.
        lesion: its description.
        chance: of being malignant, by the law.
        malignant: what the draw said.
        test: whether it is in the split test.
        how: how the image is taken.

    """

    number: int
    lesion_number: int
    lesion: Lesion
    chance: float
    malignant: bool
    test: bool
    how: Capture

    @property
    def image(self) -> str:
        """Path below the data set's folder."""
        split, label = "test" if self.test else "train", "malignant" if self.malignant else "benign"
        return f"{split}/{label}/phantom_{self.number:06d}.jpg"

    def row(self) -> dict[str, Any]:
        """Row of the manifest."""
        abcd = self.lesion.abcd
        return {
            "image": self.image,
            "label": "malignant" if self.malignant else "benign",
            "group": f"lesion_{self.lesion_number:06d}",
            "split": "test" if self.test else "train",
            "source": "phantom",
            "lesion_id": f"lesion_{self.lesion_number:06d}",
            "fitzpatrick_skin_type": FITZPATRICK[min(5, round(self.lesion.skin) - 1)],
            "skin": self.lesion.skin,
            **asdict(abcd),
            "score": abcd.score,
            "chance": self.chance,
            "color_names": " ".join(self.lesion.colors),
            "structure_names": " ".join(self.lesion.structures),
            "size": self.lesion.size,
            **self.how.as_row(),
        }


def phantoms(config: PhantomConfig) -> Iterator[Phantom]:
    """Draw the descriptions of `config.n` images."""
    number = lesion_number = 0
    while number < config.n:
        rng = np.random.default_rng([config.seed, lesion_number])
        abcd = draw_abcd(rng)
        lesion = describe(abcd, rng)
        chance = chance_of_malignancy(abcd.score, config.noise)
        malignant, test = bool(rng.random() < chance), bool(rng.random() < config.test)
        shots = 1 + int(rng.random() < config.repeats)
        for _ in range(min(shots, config.n - number)):
            yield Phantom(number, lesion_number, lesion, chance, malignant, test, draw_capture(rng))
            number += 1
        lesion_number += 1


def render(phantom: Phantom, seed: int, image_size: int) -> Pixels:
    """Draw one image, uint8 (image_size, image_size, 3); two of one lesion show the same lesion."""
    scene = draw(phantom.lesion, np.random.default_rng([seed, phantom.lesion_number, 1]), round(1.5 * image_size))
    return capture(scene, phantom.how, np.random.default_rng([seed, phantom.number, 2]), image_size)


def _written(job: tuple[Phantom, PhantomConfig, Path]) -> Pixels | None:
    phantom, config, out = job
    pixels = render(phantom, config.seed, config.image_size)
    with atomic_path(out / phantom.image) as aside:
        Image.fromarray(pixels).save(aside, "JPEG", quality=phantom.how.quality)
    return pixels if phantom.number < SHEET else None


def write(config: PhantomConfig, out: Path, *, workers: int = 2) -> pd.DataFrame:
    """Draw a data set: class folders below `train` and `test`, `manifest.csv`, and a contact sheet.

    Args:
        config: what to draw; the same config draws the same bytes.
        out: a new or empty folder, or one in which this was interrupted.
        workers: processes.

    Returns:
        The manifest's table.

    Raises:
        NevusError: the folder holds a data set already, or cannot be written.

    """
    if (out / "manifest.csv").exists():
        raise NevusError(f"Cannot draw into {out}: it holds a data set already. Choose another folder with --out.")
    ensure_writable(out)
    foreign = [p.name for p in out.iterdir() if p.name not in ("train", "test", "contact-sheet.jpg")]
    if foreign:
        raise NevusError(
            f"Cannot draw into {out}: it holds other files ({foreign[0]}). Choose another folder with --out."
        )
    drawn = list(phantoms(config))
    shown: list[Pixels] = []
    with progress() as bar:
        task = bar.add_task("drawing", total=config.n, note="")
        for pixels in _all_written([(phantom, config, out) for phantom in drawn], workers):
            if pixels is not None:
                shown.append(pixels)
            bar.advance(task)
    with atomic_path(out / "contact-sheet.jpg") as aside:
        sheet(shown, drawn[: len(shown)]).save(aside, "JPEG", quality=88)
    table = pd.DataFrame([phantom.row() for phantom in drawn])
    with atomic_path(out / "manifest.csv") as aside:  # last: where it is, all is there
        table.to_csv(aside, index=False, lineterminator="\n")
    return table


def _all_written(jobs: list[tuple[Phantom, PhantomConfig, Path]], workers: int) -> Iterator[Pixels | None]:
    if workers < 2 or len(jobs) < 100:  # starting processes takes longer than that
        yield from map(_written, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_written, jobs, chunksize=8)


def sheet(images: list[Pixels], of: list[Phantom], image_size: int = 160, columns: int = 8) -> Image.Image:
    """A contact sheet with label and score below each image."""
    rows = -(-len(images) // columns)
    made = Image.new("RGB", (columns * (image_size + 6), rows * (image_size + 22)), "white")
    pen = ImageDraw.Draw(made)
    for place, (pixels, phantom) in enumerate(zip(images, of, strict=True)):
        x, y = place % columns * (image_size + 6), place // columns * (image_size + 22)
        made.paste(Image.fromarray(pixels).resize((image_size, image_size), Image.Resampling.LANCZOS), (x, y))
        color = (194, 65, 59) if phantom.malignant else (31, 41, 51)
        name = "malignant" if phantom.malignant else "benign"
        pen.text((x + 2, y + image_size + 4), f"{name}  score {phantom.lesion.abcd.score:.1f}", fill=color)
    return made


def bayes_of(table: pd.DataFrame, config: PhantomConfig) -> tuple[float, float]:
    """Bayes accuracy of the law, and of the images that were drawn."""
    chance = table["chance"].to_numpy(float)
    return bayes_accuracy(config.noise), float(np.maximum(chance, 1 - chance).mean())
