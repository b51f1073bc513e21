import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.phantoms.dataset import PhantomConfig, write


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


EDITS = {
    "squeezed": lambda i: i.resize((96, 160), Image.Resampling.BICUBIC),
    "reduced": lambda i: i.resize((i.width // 2, i.height // 2), Image.Resampling.BOX),
    "mirrored": ImageOps.mirror,
    "turned": lambda i: i.rotate(90, expand=True),
    "upside-down": lambda i: i.rotate(180),
    "compressed": lambda i: jpeg(i, 30),
    "shifted": lambda i: i.crop((4, 3, i.width, i.height)),
    "brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.3),
    "cropped": lambda i: i.crop((12, 12, i.width - 10, i.height - 12)),
}


@pytest.fixture(scope="session")
def lesions(tmp_path_factory):
    """36 phantom lesions of 144 pixels, each seen once."""
    folder = tmp_path_factory.mktemp("lesions") / "set"
    write(PhantomConfig(n=36, image_size=144, seed=11, repeats=0), folder, workers=1)
    return folder


@pytest.fixture
def cache(tmp_path):
    """A cache of the test's own."""
    made = Cache(CacheConfig(tmp_path / "pixels"))
    yield made
    made.close()


@pytest.fixture
def manifest_of():
    """Make a Manifest from rows of (path, label, split), with further columns."""

    def make(rows, name="set", **columns):
        table = pd.DataFrame(
            [(str(path), label, str(path), split, name) for path, label, split in rows],
            columns=["image", "label", "group", "split", "source"],
        ).assign(**columns)
        return Manifest(table, rows[0][0].parent.parent, tuple(sorted(set(table["label"]))), name)

    return make


@pytest.fixture
def squares_of():
    """Arrays as decoded images of the audit."""

    class Held:
        def __init__(self, pixels):
            self.pixels = np.stack(pixels)

        def __len__(self):
            return len(self.pixels)

        def __getitem__(self, rows):
            return self.pixels[rows]

        def part(self, rows):
            return Held(list(self.pixels[rows]))

    return Held
