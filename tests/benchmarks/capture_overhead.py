"""What does the capture proxy cost a client? TTFT and requests/s, direct and through it, in one run.

    python tests/benchmarks/capture_overhead.py [--streams 40] [--posts 1500]

Three ways to the same demo server, one after the other: direct, through `mitmdump` as it comes (a reverse
proxy that buffers streams), and through `peaktape capture`. Not a test: figures and ratios are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from replay.demo.build import Build  # noqa: E402
from replay.demo.launch import RunningServer  # noqa: E402

CHAT = {
    "model": "demo-chat",
    "stream": True,
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "how long is a peak " * 20}],
}
POST = {"model": "demo-embed", "input": "word " * 1000}
CLIENTS = 8


async def _ttft_ms(session: aiohttp.ClientSession, url: str) -> float:
    began = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=CHAT) as response:
        async for piece in response.content.iter_any():
            if b'"content": "' in piece.replace(b'":"', b'": "').replace(b'"content": ""', b""):
                return (time.perf_counter() - began) * 1e3
    raise RuntimeError("a stream without content")


async def _posts_per_s(session: aiohttp.ClientSession, url: str, count: int) -> float:
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            async with session.post(f"{url}/v1/embeddings", json=POST) as response:
                await response.read()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - began)


async def _measure(url: str, streams: int, posts: int) -> tuple[float, float, float]:
    async with aiohttp.ClientSession() as session:
        await _ttft_ms(session, url)
        found = [await _ttft_ms(session, url) for _ in range(streams)]
        rate = await _posts_per_s(session, url, posts)
    return float(np.median(found)), float(np.quantile(found, 0.95)), rate


@contextlib.contextmanager
def _mitmdump(upstream: str) -> Iterator[str]:
    with _free_port() as port:
        command = [str(Path(sys.executable).with_name("mitmdump")), "-q", "--mode", f"reverse:{upstream}"]
        child = subprocess.Popen([*command, "--listen-host", "127.0.0.1", "-p", str(port)])
    try:
        _await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def _capture(upstream: str, folder: Path) -> Iterator[str]:
    arguments = [
        "capture",
        "--upstream",
        upstream,
        "--listen",
        "127.0.0.1:0",
        "-o",
        str(folder / "t.parquet"),
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "replay.cli", *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stderr is not None
    try:
        yield next(line.split()[-1] for line in child.stderr if line.startswith("listening on"))
    finally:
        child.terminate()
        print(child.communicate()[1].strip().splitlines()[-2])


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    yield port


def _await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError("the proxy did not start")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--posts", type=int, default=1500)
    chosen = parser.parse_args()
    fast = Build(
        embed_ms=0, embed_token_ms=0, embed_slots=1000, jitter_sigma=0, prefill_ms=50, prefill_token_ms=0
    )
    with RunningServer(fast) as server, tempfile.TemporaryDirectory() as name:
        ways = {
            "direct": contextlib.nullcontext(server.base_url),
            "mitmdump": _mitmdump(server.base_url),
            "peaktape": _capture(server.base_url, Path(name)),
        }
        titles = ("way", "TTFT p50 ms", "TTFT p95 ms", "posts/s", "of mitmdump's")
        print(*(f"{title:>14}" for title in titles))
        peer = float("nan")
        for way, opened in ways.items():
            with opened as url:
                median, p95, rate = asyncio.run(_measure(url, chosen.streams, chosen.posts))
            peer = rate if way == "mitmdump" else peer
            print(
                *(
                    f"{text:>14}"
                    for text in (way, f"{median:.1f}", f"{p95:.1f}", f"{rate:.0f}", f"{rate / peer:.2f}x")
                )
            )


if __name__ == "__main__":
    main()
