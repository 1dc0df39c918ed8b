"""What the server counts, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE: str = CONTENT_TYPE_LATEST
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """The counters of one server.

    Args:
        waiting: Returns how many images are accepted and not answered.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        # Not the library's own registry: a process may have several servers, as tests do.
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "igrag_requests", "Requests for captions by status.", ["status"],
            registry=self._registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "igrag_request_seconds", "From a request's first byte to its answer's last.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batch_images = Histogram(
            "igrag_batch_images", "Images of a batch.", buckets=_SIZES, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "igrag_batch_seconds", "Retrieval and generation of a batch.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        gauge = Gauge(
            "igrag_images_waiting", "Images that are accepted and not answered.",
            registry=self._registry,
        )  # fmt: skip
        gauge.set_function(waiting)

    def count_request(self, status: int, seconds: float) -> None:
        """Counts a request for captions, whatever became of it."""
        self._requests.labels(str(status)).inc()
        self._request_seconds.observe(seconds)

    def count_batch(self, images: int, seconds: float) -> None:
        """Counts a batch that was captioned."""
        self._batch_images.observe(images)
        self._batch_seconds.observe(seconds)

    def as_text(self) -> bytes:
        """Returns all of it as Prometheus reads it."""
        return generate_latest(self._registry)
