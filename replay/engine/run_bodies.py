"""The bodies that a run kept, read for some of its requests: batch by batch, never all at once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput
from replay.engine.run_format import HASH

MOST_BYTES = 256 << 20
"""Of bodies held at once; the requests beyond it are left out."""

SEPARATOR = "\x1f"
"""Between request id and copy in a request's key, as in `RunTable.request_key`."""

_ROWS = 2000


def read_bodies(
    path: Path, requests: Collection[str], kept: str, keys: Keys | None = None
) -> dict[str, bytes]:
    """The bodies of `requests` (as `RunTable.request_key`) of a run, or their SHA-256 where `kept` is hash.

    Only answers with a status of 2xx or 304 that came whole. Raises `BadInput` for a file that can't be read.
    """
    column = "body_sha256" if kept == HASH else "body"
    wanted = pa.array(sorted(requests), pa.string())
    found: dict[str, bytes] = {}
    size = 0
    try:
        with open_parquet(path, keys) as file:
            columns = ["request_id", "copy", "status", "error", column]
            for batch in file.iter_batches(_ROWS, columns=columns):
                key = pc.binary_join_element_wise(
                    batch["request_id"], batch["copy"].cast(pa.string()), SEPARATOR
                )
                whole = pc.and_(pc.is_null(batch["error"]), _good(batch["status"]))
                chosen = pc.and_(pc.is_in(key, value_set=wanted), pc.fill_null(whole, False))
                for name, body in zip(
                    key.filter(chosen).to_pylist(), batch[column].filter(chosen).to_pylist(), strict=True
                ):
                    if body is not None and size + len(body) <= MOST_BYTES:
                        found[name] = body
                        size += len(body)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path}: bodies can't be read ({error}); replay again") from error
    return found


def _good(status: pa.Array) -> pa.Array:
    success = pc.and_(pc.greater_equal(status, 200), pc.less(status, 300))
    return pc.or_(success, pc.equal(status, 304))
