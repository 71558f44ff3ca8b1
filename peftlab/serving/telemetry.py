"""What the service tells of itself: Prometheus metrics, and one JSON line a request. Never a user's text."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Telemetry:
    """Counts and logs.

    Args:
        log: Where the lines go; None: standard error.
    """

    def __init__(self, log: TextIO | None = None) -> None:
        self._log = log
        self.registry = CollectorRegistry()
        self.requests = Counter("peftlab_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.latency = Histogram(
            "peftlab_request_seconds", "From the first byte to the answer.", ["route"],
            buckets=LATENCIES, registry=self.registry,
        )  # fmt: skip
        self.texts = Counter("peftlab_texts", "Texts answered.", ["adapter"], registry=self.registry)
        self.tokens = Counter("peftlab_generated_tokens", "Tokens written.", ["adapter"], registry=self.registry)
        self.batches = Histogram("peftlab_batch_texts", "Texts of a batch.", buckets=SIZES, registry=self.registry)
        self.batch_seconds = Histogram(
            "peftlab_batch_seconds", "Seconds of a batch in the model.", buckets=LATENCIES, registry=self.registry
        )
        self.waiting = Gauge("peftlab_waiting_texts", "Texts in the queue.", registry=self.registry)
        self.adapters = Gauge("peftlab_adapters", "Adapters in memory.", registry=self.registry)

    def batch(self, texts: int, seconds: float) -> None:
        """A batch has gone through the model."""
        self.batches.observe(texts)
        self.batch_seconds.observe(seconds)

    def request(self, route: str, status: int, seconds: float, **facts: Any) -> None:
        """A request has been answered."""
        self.requests.labels(route, str(status)).inc()
        self.latency.labels(route).observe(seconds)
        self.event("request", route=route, status=status, milliseconds=round(1000 * seconds, 2), **facts)

    def event(self, event: str, **facts: Any) -> None:
        """One line of the log."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with contextlib.suppress(OSError):  # nobody reads the log any more, or the disk is full: the service goes on
            print(json.dumps({"time": now, "event": event, **facts}), file=self._log or sys.stderr, flush=True)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
