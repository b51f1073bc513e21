"""Micro-batches: images of concurrent requests go through the model together, and into the register together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from nevus.bundle.classifier import Classifier
from nevus.bundle.image_check import check_images
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
        result: the recorded entry and the prediction; None for an image that cannot be used.

    """

    entry: Entry
    squares: tuple[Pixels, ...] = ()
    sensitivity: float | None = None
    result: Future[tuple[Entry, Prediction | None]] = field(default_factory=Future)


class Batcher:
    """Threads that predict whatever waits, as one batch each.

    They never wait for more images: a single request is as fast as without them. While batches are computed the next
    one gathers.
    """

    def __init__(
        self,
        classifier: Classifier,
        register: Register,
        max_batch: int,
        *,
        threads: int = 2,
        prevalence: float | None = None,
        seen: Callable[[int], None] = lambda n: None,
    ) -> None:
        """Start the threads.

        Args:
            classifier: a bundle made ready.
            register: where every entry is written before its result is given.
            max_batch: largest number of images at once.
            threads: that predict.
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
        self._closed, self._closing = False, threading.Lock()
        self._checks = ThreadPoolExecutor(threads, thread_name_prefix="nevus-check")
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Future[tuple[Entry, Prediction | None]]:
        """Hand over an image; its result comes when it is recorded.

        The result raises `NevusError` where the model fails or the register cannot be written.
        """
        with self._closing:  # nothing may come after the end of the queue
            if self._closed:
                raise NevusError("Cannot predict: the service is stopping. Try again later.")
            self._waiting.put(job)
        return job.result

    def close(self, timeout: float = 60.0) -> None:
        """Finish what waits, and end the threads; a thread that hangs (in a dead database) is left after `timeout`."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(timeout)
        self._checks.shutdown(wait=False)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            jobs = [job]
            while len(jobs) < self._max_batch:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._waiting.put(None)
                    break
                jobs.append(more)
            self._finish(jobs)
        self._waiting.put(None)  # for the next thread

    def _finish(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.result.running() or job.result.set_running_or_notify_cancel()]
        if not jobs:
            return
        try:
            predictions = self._predict([job for job in jobs if job.squares])
            found = [(self._filled(job, predictions.get(id(job))), predictions.get(id(job))) for job in jobs]
            self._register.record([entry for entry, _ in found])
        except Exception as error:  # the thread must live on
            if len(jobs) > 1:  # one may be at fault; the others are of other requests
                for job in jobs:
                    self._finish([job])
            else:
                jobs[0].result.set_exception(error)
            return
        self._seen(len(jobs))
        for job, result in zip(jobs, found, strict=True):
            job.result.set_result(result)

    def _predict(self, jobs: list[Job]) -> dict[int, Prediction]:
        if not jobs:
            return {}
        # The check runs beside the model, whose views are made by one core.
        checked = self._checks.submit(check_images, np.stack([job.squares[1] for job in jobs]))
        logits, spread = self._rules[None].logits([job.squares[0] for job in jobs])
        scores = checked.result()
        found: dict[int, Prediction] = {}
        for sensitivity in dict.fromkeys(job.sensitivity for job in jobs):
            rows = [row for row, job in enumerate(jobs) if job.sensitivity == sensitivity]
            decided = self._rules[sensitivity].decide(
                logits[rows],
                scores.subset(rows),
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
            prevalence=self._prevalence,
            sensitivity=point.sensitivity if point and point.threshold is not None else None,
        )
