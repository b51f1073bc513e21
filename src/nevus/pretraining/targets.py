"""What teachers say of images, as targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nevus._progress import progress
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, DecodedImages
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.pretraining.teachers import Teacher
from nevus.training.batches import VIEW, WHOLE, augment_of, make_batch
from nevus.training.config import TrainConfig

FAR = 5.0
"""Standard deviations at which a teacher's feature is cut off: a few hundred images must not rule the rest."""
_CHUNK = 4096
TEACHER_BATCH = 16
"""Images that a teacher gets at a time; as many outputs are lost when the process is killed."""


@dataclass(frozen=True)
class TeacherOutputs:
    """Features and probabilities of n images by each teacher: float16 (n, features + classes)."""

    vectors: tuple[NDArray[np.float16], ...]

    @classmethod
    def of(cls, teachers: Sequence[Teacher], images: DecodedDataset, cache: Cache) -> TeacherOutputs:
        """Compute what is not in the cache yet, in one pass over the images for each teacher."""
        return cls(tuple(_outputs(teacher, images, cache) for teacher in teachers))

    def __len__(self) -> int:
        return len(self.vectors[0])

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> list[NDArray[np.float32]]:
        """Return float32 (m, features + classes) of each teacher."""
        return [vectors[rows].astype(np.float32) for vectors in self.vectors]


def _outputs(teacher: Teacher, images: DecodedDataset, cache: Cache) -> NDArray[np.float16]:
    precision = "bf16" if teacher.bf16 else "fp32"
    keys = [f"{teacher.digest}-{teacher.image_size}-{precision}-{digest}" for digest in images.pixels.digests]
    width = teacher.features + teacher.classes
    vectors = np.empty((len(keys), width), np.float16)
    known = np.zeros(len(keys), bool)
    for row, key in enumerate(keys):
        value = cache.get("teachers", key)
        if value is not None and len(value) == 2 * width:
            vectors[row], known[row] = np.frombuffer(value, np.float16), True
    missing = np.flatnonzero(~known).tolist()
    preprocess, paths = Preprocess(teacher.image_size), images.manifest.paths
    squares = prefetch_map(lambda row: preprocess.pixels(paths[row]), missing)
    with progress() as bar:
        task = bar.add_task(f"outputs of {teacher.name}", total=len(missing), note="")
        for start in range(0, len(missing), TEACHER_BATCH):
            rows = missing[start : start + TEACHER_BATCH]
            vectors[rows] = teacher(np.stack(list(islice(squares, len(rows))))).astype(np.float16)
            cache.put_many("teachers", {keys[row]: vectors[row].tobytes() for row in rows})
            bar.advance(task, len(rows))
    return vectors


@dataclass(frozen=True)
class DistillationTargets:
    """How what teachers say becomes targets: features standardized, the probabilities of one of them.

    Attributes:
        sizes: features and classes of each teacher.
        mean: of the features over the training images, float32 (features,).
        std: likewise.

    """

    sizes: tuple[tuple[int, int], ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, teachers: Sequence[Teacher], said: TeacherOutputs) -> DistillationTargets:
        """With the moments of what is said of the training images."""
        sizes = tuple((t.features, t.classes) for t in teachers)
        width = sum(features for features, _ in sizes)
        total, squares = np.zeros(width), np.zeros(width)
        for start in range(0, len(said), _CHUNK):
            part = _features(sizes, said[slice(start, start + _CHUNK)]).astype(np.float64)
            total += part.sum(0)
            squares += np.square(part).sum(0)
        mean = total / len(said)
        std = np.sqrt(np.maximum(squares / len(said) - mean**2, 0))
        # A feature that is always the same says nothing: its target is 0.
        return cls(sizes, mean.astype(np.float32), np.where(std > 1e-6, std, 1).astype(np.float32))

    @property
    def features(self) -> int:
        """How many of a target's numbers are features."""
        return len(self.mean)

    @property
    def width(self) -> int:
        """Of a target."""
        return self.features + next((classes for _, classes in self.sizes if classes), 0)

    def targets(self, vectors: Sequence[NDArray[np.float32]]) -> Tensor:
        """Float32 (m, width) of each teacher's vectors (m, features + classes)."""
        features = ((_features(self.sizes, vectors) - self.mean) / self.std).clip(-FAR, FAR)
        first = next((k for k, (_, classes) in enumerate(self.sizes) if classes), None)
        if first is None:
            return torch.from_numpy(features)
        p = vectors[first][:, self.sizes[first][0] :]
        p = p / p.sum(1, keepdims=True)  # half precision has rounded them
        return torch.from_numpy(np.concatenate([features, p], 1))


def _features(sizes: Sequence[tuple[int, int]], vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([v[:, :features] for v, (features, _) in zip(vectors, sizes, strict=True)], 1)


@dataclass(frozen=True)
class CachedTargetBatches:
    """Batches of views with what the teachers said of the whole images; MixUp mixes both.

    Attributes:
        pixels: of the images.
        said: of the same images.
        lesson: see `DistillationTargets`.
        config: which views, batch and MixUp.
        preprocess: of the student.
        seed: of everything random.

    """

    pixels: DecodedImages
    said: TeacherOutputs
    lesson: DistillationTargets
    config: TrainConfig
    preprocess: Preprocess
    seed: int

    def __call__(self, step: int, part: slice = WHOLE) -> tuple[Tensor, Tensor]:
        """Float (n, 3, image_size, image_size) and float (n, width)."""
        augment = augment_of(self.config)
        draws = augment.sample_params(self.config.batch_size, np.random.default_rng([self.seed, VIEW, step]))

        def inputs(rows: NDArray[np.int64], places: NDArray[np.int64]) -> Tensor:
            return normalize(augment.apply(self.pixels[rows], draws[places]), self.preprocess)

        def targets(rows: NDArray[np.int64]) -> Tensor:
            return self.lesson.targets(self.said[rows])

        return make_batch(len(self.pixels), inputs, targets, self.config, self.seed, step, part)


@dataclass(frozen=True)
class OnlineTargetBatches:
    """Batches of which teachers and student see the same views: crop, colors and MixUp.

    Views are cut at the largest side that any of them takes, mixed, and reduced for the others.

    Attributes:
        pixels: of the images.
        teachers: are asked at every step.
        lesson: see `DistillationTargets`.
        config: which views, batch and MixUp.
        preprocess: of the student.
        seed: of everything random.

    """

    pixels: DecodedImages
    teachers: Sequence[Teacher]
    lesson: DistillationTargets
    config: TrainConfig
    preprocess: Preprocess
    seed: int

    def __call__(self, step: int, part: slice = WHOLE) -> tuple[Tensor, Tensor]:
        """Float (n, 3, image_size, image_size) and float (n, width)."""
        largest = max(self.config.image_size, *(t.image_size for t in self.teachers))
        augment = augment_of(self.config, largest)
        draws = augment.sample_params(self.config.batch_size, np.random.default_rng([self.seed, VIEW, step]))

        def inputs(rows: NDArray[np.int64], places: NDArray[np.int64]) -> Tensor:
            views = torch.from_numpy(augment.apply(self.pixels[rows], draws[places]))
            return views.permute(0, 3, 1, 2).float()

        def nothing(rows: NDArray[np.int64]) -> Tensor:
            return torch.zeros(len(rows), 1)

        views, _ = make_batch(len(self.pixels), inputs, nothing, self.config, self.seed, step, part)
        said = [teacher(_reduced(views, teacher.image_size)) for teacher in self.teachers]
        return normalize(_reduced(views, self.config.image_size), self.preprocess), self.lesson.targets(said)


def _reduced(views: Tensor, image_size: int) -> NDArray[np.uint8]:
    if views.shape[-1] != image_size:
        views = F.interpolate(views, (image_size, image_size), mode="bilinear", antialias=True, align_corners=False)
    return views.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
