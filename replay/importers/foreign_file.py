"""A foreign run's way into a run file: through the one writer of runs, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from capture.encryption_keys import Keys
from replay.engine.run_format import RunMetadata
from replay.engine.run_writer import RunWriter

_BATCH_ROWS = 2_000


def write_foreign_run(path: Path, table: pa.Table, metadata: RunMetadata, keys: Keys | None = None) -> None:
    """Write the run to `path`, encrypted if there are `keys`.

    Raises `BadInput` where it can't be written; what was at `path` then stays as it was.
    """
    writer = RunWriter(path, keys=keys)
    try:
        writer.begin(metadata)
        for batch in table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS):
            writer.add(batch)
        writer.finish(metadata)
    except BaseException:
        writer.written = 0  # what there is of it is no run that was interrupted
        writer.abandon()
        raise
