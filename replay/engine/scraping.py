"""Sampling Prometheus endpoints while a replay runs, by a process of its own: `replay.engine.scraping`.

No sender waits for an endpoint, none shares a processor's turn with a parser (this process is nice), and one
endpoint that is slow or away holds no other up: each has its thread. The process ends with its parent,
whatever ended that, and leaves a whole file. Which samples are kept is decided in `server_metrics`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import math
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from capture.child_processes import child_environment, wait_or_kill
from replay.engine.frames import FrameSplitter, frame
from replay.engine.scrape_format import (
    METADATA_KEY,
    SCRAPE_SCHEMA,
    ScrapeMetadata,
    Source,
    partial_scrape_of,
    write_scrape,
)
from replay.engine.server_metrics import DURATION, UP, Choice

TIMEOUT_S: Final = 5.0
"""A scrape that takes longer has failed; meanwhile due ones of the same endpoint are left out."""

MOST_BYTES: Final = 32 << 20
END_TIMEOUT_S: Final = 5.0
_WRITE_EVERY_S: Final = 0.5
_NICENESS: Final = 10
_OPENMETRICS: Final = "application/openmetrics-text"
_ACCEPT: Final = f"text/plain;version=0.0.4;q=1,{_OPENMETRICS};version=1.0.0;q=0.5,*/*;q=0.1"

_HEADERS: Final = {"Accept": _ACCEPT, "User-Agent": "peaktape", "Connection": "close"}

Row = tuple[int, str, str, str, str, float, str | None]
"""The values of `SCRAPE_SCHEMA`; the instant is a monotonic one."""


@dataclasses.dataclass(frozen=True)
class ScrapeJob:
    """What to sample, how often, for which run file."""

    sources: tuple[Source, ...]
    run: Path
    every_s: float = 1.0
    patterns: tuple[str, ...] = ()


class ScraperProcess:
    """The parent's side: starts the process, tells it the run's zero, ends it. Never waits on an endpoint."""

    def __init__(self, job: ScrapeJob) -> None:
        self._channel, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "replay.engine.scraping", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the parent's to hear: it ends this one in its time
        )
        theirs.close()
        self._tell("job", job)

    def begin(self, zero_ns: int) -> None:
        """Sample from now on; instants count from `zero_ns` (monotonic)."""
        self._tell("start", zero_ns)

    def end(self) -> None:
        """Have the file written, and wait for it; a process that does not end is killed."""
        self._channel.close()
        wait_or_kill(self.process, END_TIMEOUT_S)

    def _tell(self, kind: str, content: Any) -> None:
        # A scraper that died is none of the replay's business: its samples are missing, and that is said.
        with contextlib.suppress(OSError):
            self._channel.sendall(frame((kind, content)))


def samples_of(text: str, content_type: str, choice: Choice) -> Iterator[tuple[str, str, str, float]]:
    """(name, labels, type, value) of the samples that `choice` keeps; raises `ValueError` for what is no text
    of Prometheus' (0.0.4) or OpenMetrics (1.0). Samples without a number are left out.
    """
    if content_type.startswith(_OPENMETRICS):
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
    else:
        from prometheus_client.parser import text_string_to_metric_families as parse

        text = "\n".join(_lines(text, choice))
    for family in parse(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            if choice.keeps(sample.name) and math.isfinite(sample.value):
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                yield sample.name, labels, family.type, float(sample.value)


def _lines(text: str, choice: Choice) -> Iterator[str]:
    """The lines that matter: parsing all of a node exporter's takes fifty times as long."""
    for line in text.splitlines():
        if line.startswith("# TYPE") or (
            line[:1] not in ("", "#") and choice.keeps(line.partition("{")[0].partition(" ")[0])
        ):
            yield line


class Endpoint:
    """One source, asked over a connection of its own each time."""

    def __init__(self, source: Source, choice: Choice) -> None:
        self._source = source
        self._choice = choice
        parts = urllib.parse.urlsplit(source.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._path = urllib.parse.urlunsplit(("", "", parts.path or "/metrics", parts.query, ""))

    def scrape(self) -> list[Row]:
        """The rows of one scrape: its samples, whether it was answered and how long it took."""
        began_ns, error = time.monotonic_ns(), None
        found: list[tuple[str, str, str, float]] = []
        try:
            found = list(self._samples(began_ns))
        except (OSError, ValueError, http.client.HTTPException) as failure:
            error = " ".join((str(failure) or type(failure).__name__).split())[:200]
        finally:
            # An idle connection would be closed by some servers just before the next request.
            self._connection.close()
        ended_ns = time.monotonic_ns()
        at_ns, name = (began_ns + ended_ns) // 2, self._source.name
        rows: list[Row] = [(at_ns, name, *sample, None) for sample in found]
        rows.append((at_ns, name, UP, "", "gauge", float(error is None), error))
        rows.append((at_ns, name, DURATION, "", "gauge", (ended_ns - began_ns) / 1e9, None))
        return rows

    def _samples(self, began_ns: int) -> Iterable[tuple[str, str, str, float]]:
        self._connection.request("GET", self._path, headers=_HEADERS)
        response = self._connection.getresponse()
        body = bytearray()
        while piece := response.read1(1 << 16):
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
            if time.monotonic_ns() - began_ns > TIMEOUT_S * 1e9:
                raise TimeoutError(f"not whole after {TIMEOUT_S:g} s")
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        kind = response.headers.get("Content-Type", "")
        return samples_of(body.decode("utf-8", "replace"), kind, self._choice)


class _Sampler:
    """The process's own side: a thread per endpoint, and a file that what they bring goes to."""

    def __init__(self, job: ScrapeJob, zero_ns: int) -> None:
        self._job = job
        self._zero_ns = zero_ns
        self._rows: queue.SimpleQueue[list[Row]] = queue.SimpleQueue()
        self._over = threading.Event()
        about = ScrapeMetadata(zero_ns, job.every_s, job.sources)
        self._metadata = {METADATA_KEY: about.to_json()}
        self._file = partial_scrape_of(job.run).open("wb")
        self._stream = pa.ipc.new_stream(self._file, SCRAPE_SCHEMA.with_metadata(self._metadata))
        choice = Choice(job.patterns)
        for source in job.sources:
            endpoint = Endpoint(source, choice)
            threading.Thread(target=self._sample, args=[endpoint], daemon=True).start()

    def _sample(self, endpoint: Endpoint) -> None:
        every_ns = round(self._job.every_s * 1e9)
        while not self._over.is_set():
            self._rows.put(endpoint.scrape())
            # The next instant of the run's own grid: a scrape that took long costs the ones it overran.
            since_ns = time.monotonic_ns() - self._zero_ns
            self._over.wait((every_ns - since_ns % every_ns) / 1e9)

    def write(self) -> None:
        """Append what has come to the partial file."""
        rows: list[Row] = []
        with contextlib.suppress(queue.Empty):
            while True:
                rows += self._rows.get_nowait()
        if rows:
            columns = [*map(list, zip(*rows, strict=True))]
            columns[0] = [at_ns - self._zero_ns for at_ns in columns[0]]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SCRAPE_SCHEMA, strict=True)]
            self._stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCRAPE_SCHEMA))
            self._file.flush()

    def finish(self) -> None:
        """Make the file of the partial one. A scrape under way is not waited for."""
        self._over.set()
        self.write()
        self._stream.close()
        self._file.close()
        write_scrape(self._job.run)


def main(descriptor: int) -> None:
    """Do what the parent says on the socket, until it is closed."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    channel = socket.socket(fileno=descriptor)
    splitter, sampler, job = FrameSplitter(), None, None
    while True:
        readable, _, _ = select.select([channel], [], [], _WRITE_EVERY_S)
        if sampler is not None:
            sampler.write()
        if not readable:
            continue
        data = channel.recv(1 << 16)
        if not data:
            break
        for kind, content in splitter.feed(data):
            if kind == "job":
                job = content
            elif kind == "start" and job is not None:
                sampler = _Sampler(job, content)
    if sampler is not None:
        sampler.finish()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except OSError as error:  # no room for the samples: the replay goes on without
        sys.exit(f"peaktape: scrape: can't be written ({error.strerror or error})")
