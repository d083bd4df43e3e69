"""A capture's counts as Prometheus metrics: names, types and help texts, and nothing else.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from capture.__about__ import VERSION
from capture.counts import Counts, UploadCounts
from capture.retention import BY_AGE, BY_SIZE

_PREFIX = "peaktape_capture_"


class CountsCollector(Collector):
    """Asks `counts` at each scrape."""

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked when the collector is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All metrics as they stand now."""
        counts = self._counts()
        yield InfoMetricFamily(_PREFIX.rstrip("_"), "This capture.", {"version": VERSION})
        yield _counter("requests_seen", "Requests that came in.", counts.seen)
        yield _counter("requests_recorded", "Requests in segments of the trace.", counts.recorded)
        yield _counter("requests_journaled", "Requests safe in the journal or a segment.", counts.journaled)
        dropped = CounterMetricFamily(
            f"{_PREFIX}requests_dropped", "Requests lost to the trace, by cause.", labels=["cause"]
        )
        for cause, count in sorted(counts.dropped.items()):
            dropped.add_metric([cause], count)
        yield dropped
        not_chosen = CounterMetricFamily(
            f"{_PREFIX}requests_not_chosen", "Requests that were not to be recorded.", labels=["reason"]
        )
        for reason, count in sorted(counts.not_chosen.items()):
            not_chosen.add_metric([reason], count)
        yield not_chosen
        yield _gauge("requests_in_flight", "Requests that are not over.", counts.in_flight)
        yield _gauge("requests_waiting", "Requests that are over and in no segment yet.", counts.waiting)
        yield _gauge("spool_bytes", "Waiting in memory for the recorder.", counts.spool_bytes)
        yield _gauge("journal_bytes", "Waiting on disk to become a segment.", counts.journal_bytes)
        yield _gauge("journal_lag_seconds", "Age of the oldest of those.", counts.journal_lag_s)
        yield _gauge("segments", "Segments written.", counts.segment)
        yield _gauge("segment_bytes", "Their size on disk.", counts.disk_bytes)
        yield _counter(
            "recorder_restarts", "Times the recorder's process was started again.", counts.restarts
        )
        yield _gauge("recording", "1 while recording is on, 0 while it is paused.", int(not counts.paused))
        yield _gauge("trouble", "1 while the recorder can't write.", int(bool(counts.trouble)))
        yield _expired(counts)
        if counts.uploads is not None:
            yield from _uploads(counts.uploads)


def _expired(counts: Counts) -> Metric:
    """What was deleted to keep bounds, in the folder or in the store."""
    deleted = CounterMetricFamily(
        f"{_PREFIX}segments_expired", "Segments deleted to keep a bound, by bound.", labels=["bound"]
    )
    there = counts.expired if counts.uploads is None else counts.uploads.expired
    for bound in (BY_SIZE, BY_AGE):
        deleted.add_metric([bound], there.get(bound, 0))
    return deleted


def _uploads(uploads: UploadCounts) -> Iterator[Metric]:
    yield _counter("uploaded_segments", "Segments that the store has.", uploads.sent_segments)
    yield _counter("uploaded_bytes", "Their size.", uploads.sent_bytes)
    yield _counter("upload_failures", "Tries to send a segment that failed.", uploads.failures)
    yield _gauge("outbox_segments", "Segments that wait to be sent.", uploads.waiting_segments)
    yield _gauge("outbox_bytes", "Their size on disk.", uploads.waiting_bytes)
    yield _gauge("outbox_age_seconds", "Age of the oldest of those.", uploads.oldest_s)
    yield _gauge("store_away_seconds", "For how long every try has failed, else 0.", uploads.failing_s)


def registry_of(counts: Callable[[], Counts]) -> CollectorRegistry:
    """The metrics of a capture, and those of its first proxy's process (CPU, memory, file descriptors)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CountsCollector(counts))
    ProcessCollector(registry=registry)
    return registry


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value)
