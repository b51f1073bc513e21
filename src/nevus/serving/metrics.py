"""Counters of the service, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class ServiceMetrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "nevus_requests",
            "Requests by method, route and status",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.images = Counter("nevus_images", "Images by decision", ["decision"], registry=self._registry)
        self.seconds = Histogram(
            "nevus_prediction_seconds", "Seconds of a request for predictions", registry=self._registry
        )
        self.batches = Histogram(
            "nevus_batch_images",
            "Images that the model predicted at once",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        self.waiting = Gauge("nevus_waiting_requests", "Requests for predictions under way", registry=self._registry)
        self.restarts = Gauge(
            "nevus_decoder_restarts", "Decoding processes that were replaced", registry=self._registry
        )

    def text(self) -> bytes:
        """Return the text format, version 0.0.4."""
        return generate_latest(self._registry)
