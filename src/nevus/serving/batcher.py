"""Micro-batches: images of concurrent requests go through the model together, and into the register together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from nevus.bundle.classifier import Classifier
from nevus.bundle.prediction import Prediction
from nevus.data.images import Pixels
from nevus.errors import NevusError
from nevus.register.entry import Entry
from nevus.register.register import Register


@dataclass(frozen=True)
class Job:
    """One image on its way.

    Attributes:
        entry: of the register; its outputs are filled in.
        squares: for the model and for the image check; empty where the image cannot be used.
        sensitivity: that the decision is made at; None for the bundle's.
        result: the entry as it was recorded, and the prediction; None for an image that cannot be used.

    """

    entry: Entry
    squares: tuple[Pixels, ...] = ()
    sensitivity: float | None = None
    result: Future[tuple[Entry, Prediction | None]] = field(default_factory=Future)


class Batcher:
    """A thread that predicts whatever waits, as one batch.

    It never waits for more images: a single request is as fast as without it. While one batch is computed the next
    one gathers.
    """

    def __init__(
        self,
        classifier: Classifier,
        register: Register,
        max_batch: int,
        *,
        prevalence: float | None = None,
        seen: Callable[[int], None] = lambda n: None,
    ) -> None:
        """Start the thread.

        Args:
            classifier: a bundle made ready.
            register: where every entry is written before its result is given.
            max_batch: largest number of images at once.
            prevalence: see `Classifier.stream`.
            seen: is called with the size of each batch.

        """
        self._register, self._max_batch = register, max_batch
        self._prevalence, self._seen = prevalence, seen
        self._rules: Mapping[float | None, Classifier] = {None: classifier} | {
            point.sensitivity: Classifier(classifier.bundle, tta=classifier.tta, sensitivity=point.sensitivity)
            for point in classifier.bundle.rule.points
        }
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="nevus-batcher", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[tuple[Entry, Prediction | None]]:
        """Hand over an image; its result comes when it is recorded.

        The result raises `NevusError` where the model fails or the register cannot be written.
        """
        if self._closed:
            raise NevusError("Cannot predict: the service is stopping. Try again later.")
        self._waiting.put(job)
        return job.result

    @property
    def waiting(self) -> int:
        """Number of images that wait, about."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            jobs, last = [job], False
            while len(jobs) < self._max_batch and not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    last = True
                    break
                jobs.append(more)
            self._finish(jobs)
            if last:
                return

    def _finish(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.result.set_running_or_notify_cancel()]
        if not jobs:
            return
        try:
            predictions = self._predict([job for job in jobs if job.squares])
            found = [(self._filled(job, predictions.get(id(job))), predictions.get(id(job))) for job in jobs]
            self._register.record([entry for entry, _ in found])
        except BaseException as error:  # the thread must live on; each request gets the error
            for job in jobs:
                job.result.set_exception(error)
            return
        self._seen(len(jobs))
        for job, result in zip(jobs, found, strict=True):
            job.result.set_result(result)

    def _predict(self, jobs: list[Job]) -> dict[int, Prediction]:
        if not jobs:
            return {}
        logits, spread = self._rules[None].logits([job.squares[0] for job in jobs])
        found: dict[int, Prediction] = {}
        for sensitivity in dict.fromkeys(job.sensitivity for job in jobs):
            rows = [row for row, job in enumerate(jobs) if job.sensitivity == sensitivity]
            decided = self._rules[sensitivity].decide(
                logits[rows],
                [jobs[row].squares[1] for row in rows],
                self._prevalence,
                [spread[row] for row in rows] if spread else (),
            )
            found |= {id(jobs[row]): one for row, one in zip(rows, decided, strict=True)}
        return found

    def _filled(self, job: Job, prediction: Prediction | None) -> Entry:
        if prediction is None or prediction.probabilities is None:
            return replace(job.entry, error=job.entry.error or (prediction.error if prediction else None))
        rule = self._rules[job.sensitivity]
        values = dict(zip(rule.classes, prediction.probabilities.tolist(), strict=True))
        point = rule.bundle.rule.operating_point
        return replace(
            job.entry,
            label=max(values, key=lambda name: values[name]),
            probabilities=values,
            decision=prediction.decision,
            set=prediction.members,
            flag=prediction.flag,
            kind=prediction.kind,
            scores=dict(prediction.scores),
            sensitivity=point.sensitivity if point and point.threshold is not None else None,
        )
