"""The service: uploads to predictions, heat maps and records."""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from nevus._io import atomic_path
from nevus.bundle.classifier import Classifier
from nevus.bundle.explain import EvidenceNetwork, Explanation, evidence_networks, explain
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, check_images
from nevus.bundle.prediction import Prediction
from nevus.bundle.wording import outcome
from nevus.errors import ImageError, NevusError
from nevus.register.entry import Entry
from nevus.register.register import Register
from nevus.runtime.engines import cpu_threads
from nevus.serving.batcher import Batcher, Job
from nevus.serving.config import ServeLimits
from nevus.serving.decoder import DecodedUpload, Decoder
from nevus.serving.metrics import ServiceMetrics
from nevus.serving.recent import RecentImage, RecentImages

SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}
"""Suffixes of kept images by their first bytes; others are DICOM or HEIC."""
OTHER_SUFFIX = ".bin"
MAX_DRAWINGS = 16
"""Heat maps that may wait."""
T = TypeVar("T")


class BusyError(NevusError):
    """Too much is asked for at once."""


@dataclass(frozen=True)
class Served:
    """A recorded prediction with what an answer adds.

    Attributes:
        entry: of the register.
        name: of the file, as the client gave it.
        outcome: in words.

    """

    entry: Entry
    name: str
    outcome: str


class Service:
    """Everything behind the API: decoder, model, register, recent images."""

    def __init__(
        self,
        classifier: Classifier,
        register: Register,
        limits: ServeLimits,
        *,
        prevalence: float | None = None,
        keep_images: Path | None = None,
    ) -> None:
        """Prepare a service; `start` makes it ready.

        Args:
            classifier: a bundle made ready.
            register: where every prediction is written before it is answered.
            limits: of images, time and memory.
            prevalence: share of the positive class where the classifier is used, see `Classifier.stream`.
            keep_images: folder for the images; by default none is kept.

        """
        self.classifier, self.register, self.limits = classifier, register, limits
        self.metrics, self.recent = ServiceMetrics(), RecentImages()
        self._sizes = (classifier.bundle.spec.image_size, CHECK_IMAGE_SIZE)
        self._decoder = Decoder(self._sizes, limits)
        self.prevalence, self._keep = prevalence, keep_images
        self._batcher: Batcher | None = None
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="nevus-heat-map")
        self._drawing_waits = 0
        self._evidence: list[list[EvidenceNetwork]] = []

    async def start(self) -> None:
        """Start the processes that decode, and run the model once."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(self._decoder.start(), asyncio.to_thread(self._warm_up))
        self._batcher = Batcher(
            self.classifier,
            self.register,
            self.limits.max_batch,
            threads=cpu_threads(),
            prevalence=self.prevalence,
            seen=self.metrics.batches.observe,
        )

    def _warm_up(self) -> None:
        size, check = (np.full((side, side, 3), 128, np.uint8) for side in self._sizes)
        self.classifier.logits([size])
        check_images(check[None])

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return self._batcher is not None and self.register.is_ready()

    async def close(self) -> None:
        """Finish what waits, and end threads and processes."""
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close, self.limits.request_timeout)
        self._drawing.shutdown(wait=False, cancel_futures=True)
        await self._decoder.close()
        self.register.close()

    def checked_sensitivity(self, sensitivity: float) -> float:
        """Return a sensitivity that the bundle has a threshold for.

        Raises:
            NevusError: it has none.

        """
        point = self.classifier.bundle.rule.at_sensitivity(sensitivity).operating_point
        assert point is not None
        return point.sensitivity

    async def predict(
        self, uploads: Sequence[tuple[str, bytes]], client: str, sensitivity: float | None = None
    ) -> tuple[str, list[Served]]:
        """Predict images, in order, and record them.

        Args:
            uploads: name and content of each file.
            client: for the register.
            sensitivity: that decisions are made at; None for the bundle's.

        Returns:
            The id of the request, and a prediction for each file.

        Raises:
            NevusError: the register cannot be written.

        """
        request_id = uuid.uuid4().hex
        try:
            async with asyncio.TaskGroup() as group:  # one that fails ends the others
                tasks = [
                    group.create_task(self._one(request_id, name, content, client, sensitivity))
                    for name, content in uploads
                ]
        except* NevusError as errors:
            raise NevusError(str(errors.exceptions[0])) from None
        return request_id, [task.result() for task in tasks]

    async def _one(self, request_id: str, name: str, content: bytes, client: str, sensitivity: float | None) -> Served:
        digest = (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
        bundle = self.classifier.bundle
        entry = Entry(uuid.uuid4().hex, request_id, digest, bundle.digest, client[:128])
        decoded: DecodedUpload | None = None
        try:
            decoded = await self._decoder.decode(content)
        except ImageError as error:
            entry = replace(entry, error=str(error))
        if decoded is not None and self._keep is not None:
            await asyncio.to_thread(self._keep_image, digest, content)
        assert self._batcher is not None
        job = Job(entry, decoded.squares if decoded else (), sensitivity)
        recorded, prediction = await asyncio.wrap_future(self._batcher.submit(job))
        if decoded is not None:
            self.recent.add(entry.id, RecentImage(decoded.squares[0], decoded.preview))
        self.metrics.images.labels(recorded.decision or "error").inc()
        self.metrics.restarts.set(self._decoder.restarts)
        return Served(recorded, name, self.outcome(recorded, prediction))

    def outcome(self, entry: Entry, prediction: Prediction | None = None) -> str:
        """Return a recorded prediction in words; of an image that cannot be used the error."""
        if entry.probabilities is None:
            return f"Cannot judge. {entry.error}"
        if entry.model_digest != self.classifier.bundle.digest:
            return f"Decision: {entry.decision}, by another model ({entry.model_digest})."
        rule = self.classifier.bundle.rule
        if entry.sensitivity is not None and any(p.sensitivity == entry.sensitivity for p in rule.points):
            rule = rule.at_sensitivity(entry.sensitivity)
        given = prediction or Prediction("", None, None, None, entry.decision, entry.set, entry.flag, entry.kind)
        return outcome(given, rule)

    async def explanation(self, identifier: str) -> tuple[Explanation, RecentImage] | None:
        """Return the heat map of a prediction and its image, or None where the image is no longer kept.

        Raises:
            BusyError: too many heat maps wait.

        """
        image = self.recent.get(identifier) or await self._kept(identifier)
        if image is None:
            return None
        return await self.draw(lambda: self._explain(image)), image

    async def draw(self, work: Callable[[], T]) -> T:
        """Do work for a heat map in the one thread for it: maps take memory and time.

        Raises:
            BusyError: too many heat maps wait.

        """
        if self._drawing_waits >= MAX_DRAWINGS:
            raise BusyError("Cannot draw the heat map now: too many wait. Try again in a second.")
        self._drawing_waits += 1
        done = self._drawing.submit(work)
        done.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._drawn))
        return await asyncio.wrap_future(done)

    def _drawn(self) -> None:
        self._drawing_waits -= 1

    def _explain(self, image: RecentImage) -> Explanation:
        if not self._evidence:  # loaded for the first heat map, and kept
            self._evidence = [evidence_networks(self.classifier)]
        return next(explain(self.classifier, [image.square], networks=self._evidence[0]))

    async def _kept(self, identifier: str) -> RecentImage | None:
        entry = await asyncio.to_thread(self.register.get, identifier) if self._keep else None
        if entry is None or self._keep is None or entry.model_digest != self.classifier.bundle.digest:
            return None
        for suffix in (*SUFFIXES.values(), OTHER_SUFFIX):
            try:
                content = await asyncio.to_thread((self._keep / f"{entry.image_digest}{suffix}").read_bytes)
                break
            except OSError:
                continue
        else:
            return None
        try:
            decoded = await self._decoder.decode(content)
        except ImageError:
            return None
        return RecentImage(decoded.squares[0], decoded.preview)

    def _keep_image(self, digest: str, content: bytes) -> None:
        """Keep an image under its digest: the client's name never becomes a path."""
        assert self._keep is not None
        suffix = next((suffix for head, suffix in SUFFIXES.items() if content.startswith(head)), OTHER_SUFFIX)
        path = self._keep / f"{digest}{suffix}"
        if not path.exists():
            with atomic_path(path) as aside:
                aside.write_bytes(content)


def png_of(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
