"""The capture proxy under hostile input at full size; `tests/capture/test_hostile_input.py` the small one.

    python tests/benchmarks/hostile_input.py [--requests 10000] [--slow-clients 3000] [--gib 1]

Prints, for each kind, how long it took and the most resident memory of the proxy while it did.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "capture"), str(HERE.parents[2])]

from hostile_rig import (  # noqa: E402
    Capture,
    brotli_bomb,
    download,
    gzip_bomb,
    running_capture,
    running_server,
    slow_clients,
    throw_malformed,
    upload_zeros,
    zstd_bomb,
)


@contextmanager
def measured(name: str, bombs: dict[str, bytes] | None = None) -> Iterator[Capture]:
    """A capture of its own for what is done to it; says what that took."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(bombs) as (url, _),
        running_capture(Path(folder) / "hostile.parquet", url) as capture,
    ):
        idle_bytes, began_s = capture.rss_bytes(), time.monotonic()
        yield capture
        took_s = time.monotonic() - began_s
        assert capture.ask("/alive").endswith(b"ok")
        code = capture.stop()
        print(
            f"{name}: {took_s:.1f} s, idle {idle_bytes >> 20} MiB, peak {capture.peak_bytes >> 20} MiB, "
            f"exit {code}; {capture.said[-2].strip()}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--slow-clients", type=int, default=3_000)
    parser.add_argument("--gib", type=int, default=1)
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    size = asked.gib << 30
    with measured(f"{asked.requests:,} malformed requests") as capture:
        throw_malformed(capture, asked.requests, seed=1)
    with measured(f"{asked.slow_clients:,} half-open clients") as capture:
        clients = slow_clients(capture, asked.slow_clients)
        began_s = time.monotonic()
        capture.ask("/served")
        print(f"  beside them one request took {1000 * (time.monotonic() - began_s):.1f} ms")
        for client in clients:
            client.close()
    with measured(f"upload of {asked.gib} GiB") as capture:
        upload_zeros(capture, size)
    with measured(f"download of {asked.gib} GiB") as capture:
        download(capture, f"/zeros/{size}")
    for coding, bomb in (("gzip", gzip_bomb), ("zstd", zstd_bomb), ("br", brotli_bomb)):
        packed = bomb(10 << 30)
        with measured(f"{coding} bomb of 10 GiB in {len(packed):,} bytes", {coding: packed}) as capture:
            download(capture, f"/bomb/{coding}")


if __name__ == "__main__":
    main()
