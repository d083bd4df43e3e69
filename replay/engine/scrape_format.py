"""What a server said of itself during a replay: one row a sample, in a file beside the run.

Beside it, and not in it: a run is one row per request, and its footer is read on every look at it, while an
hour's samples are a hundred times as large as the rest of that footer. The name `RUN.scrape` keeps
`runs/*.parquet` a list of runs; the file is Parquet all the same. While the replay is under way the rows are
in `RUN.scrape.partial` (an Arrow stream), so a killed replay keeps them too. Names and numbers of the service
stand in it and nothing of a request, so it is not encrypted with its run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from replay.engine.run_format import RunMetadata

METADATA_KEY: Final = b"peaktape.scrape"

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
SCRAPE_SCHEMA: Final = pa.schema(
    [
        pa.field("at_ns", pa.int64(), nullable=False),  # from the run's zero, in the middle of the scrape
        pa.field("source", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # of the sample, with its suffix
        pa.field("labels", pa.string(), nullable=False),  # as exposed, sorted: a="x",b="y"
        pa.field("type", pa.string(), nullable=False),  # gauge, counter, …, as the endpoint says
        pa.field("value", pa.float64(), nullable=False),
        pa.field("error", pa.string()),  # of a scrape that failed (name up, value 0)
    ]
)


@dataclasses.dataclass(frozen=True)
class Source:
    """One endpoint to sample, by the name that reports give it."""

    name: str
    url: str


@dataclasses.dataclass(frozen=True)
class ScrapeMetadata:
    """What a scrape file says of itself; the zero is the run's, and tells whose it is."""

    zero_monotonic_ns: int
    every_s: float
    sources: tuple[Source, ...]

    def to_json(self) -> bytes:
        """The UTF-8 JSON that stands under `METADATA_KEY`."""
        return json.dumps(dataclasses.asdict(self)).encode()


@dataclasses.dataclass(frozen=True)
class Scraped:
    """The samples of a run (`SCRAPE_SCHEMA`) and what was asked."""

    table: pa.Table
    metadata: ScrapeMetadata


def scrape_of(run: Path) -> Path:
    """Where the samples of a run are; also of what a killed replay left."""
    return run.with_name(run.name.removesuffix(".partial") + ".scrape")


def partial_scrape_of(run: Path) -> Path:
    """Where they are until the replay has ended."""
    scrape = scrape_of(run)
    return scrape.with_name(scrape.name + ".partial")


def read_scrape(run: Path, metadata: RunMetadata) -> Scraped | None:
    """The samples that were taken during a run, None where there are none, or none of this very run.

    A file that can't be read is as good as none: it is no part of the measurement.
    """
    with contextlib.suppress(OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        found = _read(scrape_of(run)) if scrape_of(run).exists() else _read_partial(partial_scrape_of(run))
        if found.metadata.zero_monotonic_ns == metadata.zero_monotonic_ns:
            return found
    return None


def write_scrape(run: Path) -> None:
    """Make the file of the partial one, whole or not at all, and remove that."""
    partial, path = partial_scrape_of(run), scrape_of(run)
    with pa.ipc.open_stream(partial.read_bytes()) as stream:
        table = stream.read_all()
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)
    partial.unlink()


def _read(path: Path) -> Scraped:
    with pq.ParquetFile(path) as file:
        return Scraped(_named(file.read()), _parse(file.metadata.metadata or {}))


def _read_partial(path: Path) -> Scraped:
    batches = []
    with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
        # The last batch may have been cut off by whatever ended the replay.
        with contextlib.suppress(StopIteration, pa.ArrowException, OSError):
            while True:
                batches.append(stream.read_next_batch())
        return Scraped(
            _named(pa.Table.from_batches(batches, stream.schema)), _parse(stream.schema.metadata or {})
        )


def _named(table: pa.Table) -> pa.Table:
    """The table with its few distinct words as dictionaries."""
    words = ("source", "name", "labels", "type")
    fields = [field.with_type(_WORD) if field.name in words else field for field in SCRAPE_SCHEMA]
    return table.select(SCRAPE_SCHEMA.names).cast(pa.schema(fields)).unify_dictionaries().combine_chunks()


def _parse(footer: Mapping[bytes, bytes]) -> ScrapeMetadata:
    found: dict[str, Any] = json.loads(footer[METADATA_KEY])
    sources = tuple(Source(**source) for source in found["sources"])
    return ScrapeMetadata(int(found["zero_monotonic_ns"]), float(found["every_s"]), sources)
