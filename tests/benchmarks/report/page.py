"""What the page of a large run takes: to make, to carry, to open, and to zoom in a headless Chromium.

    python tests/benchmarks/report/page.py [--requests N ...] [--keep FOLDER]

Of each size it writes two runs, makes the page of one and of their comparison, opens both, and prints one
line a page. Needs a Chromium on PATH, as the tests of pages do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path += [str(TESTS / "report"), str(TESTS / "benchmarks" / "diff")]

from browser import Page, chromium_page, running_chromium  # noqa: E402
from large_runs import write_run  # noqa: E402
from plotly.offline import get_plotlyjs  # noqa: E402

from replay.analysis.diff import compare  # noqa: E402
from replay.analysis.summary import summarise  # noqa: E402
from replay.analysis.waterfall import run_waterfall  # noqa: E402
from replay.cli.run_reading import run_table  # noqa: E402
from replay.report.html import diff_page, run_page  # noqa: E402

READS = 24.0
TIMES = 9
HEADINGS = (
    *("requests", "page", "figures s", "page s", "MB", "of it plotly.js", "load s", "of it CPU"),
    *("zoom ms", "window ms", "hover ms", "complaints", "fetches"),
)
CHART = "document.getElementById('chart-timeline')"
FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """What `act` gives, and how long it took in s."""
    began = time.perf_counter()
    return act(), time.perf_counter() - began


def pages(folder: Path, requests: int) -> list[tuple[str, str, float, float]]:
    """The two pages of a size: name, source, seconds for all figures (files read), seconds for the page."""
    paths = [folder / f"{name}-{requests}.parquet" for name in "ab"]
    for arm, path in enumerate(paths):
        noise = np.random.default_rng(arm)
        write_run(path, f"build-{'ab'[arm]}", requests, READS, noise, slower=1 + 0.1 * arm)
    found = []
    summary, figures_s = timed(lambda: summarise(run_table(paths[0]), distributed=True))
    table = run_table(paths[0])

    def one_run() -> str:
        shown = run_waterfall(table, summary.timeline.width_s)
        return run_page(dataclasses.replace(summary, waterfall=shown), ("peaktape", "report"))

    source, page_s = timed(one_run)
    found.append(("report", source, figures_s, page_s))
    result, figures_s = timed(
        lambda: compare(
            *map(run_table, paths), tolerance=0.02, rng=np.random.default_rng(0), distributed=True
        )
    )
    source, page_s = timed(lambda: diff_page(result, ("peaktape", "diff")))
    found.append(("diff", source, figures_s, page_s))
    return found


async def looked_at(page: Page, path: Path) -> dict[str, float]:
    """Opens a page; how long opening, a zoom, another window and a hover take (the middle of nine)."""
    page.complaints.clear()
    page.requests.clear()
    await page.look(1280)
    await page.open(path.as_uri())
    found = {"load_s": await page.value("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3}
    metrics = (await page.call("Performance.getMetrics"))["metrics"]
    found["cpu_s"] = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
    span_s = await page.value(f"{CHART}.layout.xaxis.range[1]")
    steps = {
        "zoom_ms": f"Plotly.relayout({CHART}, {{'xaxis.range': [AT, AT + {span_s / 4}]}})",
        "window_ms": "document.getElementById('waterfall-before').click()",
    }
    for name, act in steps.items():
        times = [
            await page.value(
                f"(async () => {{ const began = performance.now(); await {act.replace('AT', str(at))};"
                f" await {FRAMES}; return performance.now() - began }})()"
            )
            for at in np.linspace(0, span_s / 2, TIMES)
        ]
        found[name] = statistics.median(times)
    await page.value(f"{CHART}.scrollIntoView()")
    panel = f"{CHART}.querySelectorAll('.nsewdrag')[2].getBoundingClientRect()"
    left, top, width = await page.value(f"(r => [r.left, r.top, r.width])({panel})")
    times = []
    for share in np.linspace(0.1, 0.9, TIMES):
        began = time.perf_counter()
        place = {"x": left + share * width, "y": top + 60}
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", **place)
        await page.settle()
        times.append((time.perf_counter() - began) * 1e3)
    found["hover_ms"] = statistics.median(times)
    return found


async def measured(folder: Path, profile: Path, sizes: list[int]) -> None:
    """Prints one line a page; runs and pages are left in `folder`."""
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---" * len(HEADINGS) + "|")
    plotly_mb = len(get_plotlyjs().encode()) / 1e6
    async with contextlib.AsyncExitStack() as stack:
        port = stack.enter_context(running_chromium(profile))
        page = await stack.enter_async_context(chromium_page(port))
        # Seconds of the main thread, not of the clock: they hold on a busy machine too.
        await page.call("Performance.enable", timeDomain="threadTicks")
        for requests in sizes:
            for name, source, figures_s, page_s in pages(folder, requests):
                path = folder / f"{name}-{requests}.html"
                await asyncio.to_thread(path.write_text, source, "utf-8")
                seen = await looked_at(page, path)
                fetched = sum(not url.startswith(("file:", "data:", "blob:")) for url in page.requests)
                cells = (
                    *(f"{requests:,}", name, f"{figures_s:.1f}", f"{page_s:.2f}"),
                    *(f"{len(source.encode()) / 1e6:.2f}", f"{plotly_mb:.2f}", f"{seen['load_s']:.2f}"),
                    f"{seen['cpu_s']:.2f}",
                    *(f"{seen[step]:.0f}" for step in ("zoom_ms", "window_ms", "hover_ms")),
                    *(str(len(page.complaints)), str(fetched)),
                )
                print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--keep", type=Path, help="a folder for runs and pages, to look at them afterwards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = (given.keep or Path(fresh)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(measured(folder, Path(fresh) / "profile", given.requests))


if __name__ == "__main__":
    main()
