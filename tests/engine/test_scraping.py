"""Scraping: real endpoints, good, slow and away, sampled beside a real replay that none of them disturbs."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.compute as pc
import pytest
from replay_rig import MS, chat, replay_rows

from capture.failures import BadInput
from replay.analysis.run_table import RunTable
from replay.analysis.summary import summarise
from replay.cli.replay_flags import Scraping
from replay.cli.run_reading import scrape_job
from replay.demo.build import Build
from replay.demo.launch import RunningServer
from replay.engine.run_format import RunMetadata
from replay.engine.scrape_format import (
    Scraped,
    Source,
    partial_scrape_of,
    read_scrape,
    scrape_of,
)
from replay.engine.scraping import ScrapeJob, ScraperProcess


def run_metadata(zero_monotonic_ns: int) -> RunMetadata:
    return RunMetadata("a", "http://127.0.0.1:1", zero_monotonic_ns, 0, "trace", "schedule", (), 0)


@contextlib.contextmanager
def endpoint(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on a free port whose GETs are answered by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # the scraper may be gone by now
                answer(self)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def body(text: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def never(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3.0)


def ups(found: Scraped, source: str) -> list[float]:
    table = found.table.filter(pc.equal(found.table["source"], source))
    values: list[float] = table.filter(pc.equal(table["name"], "up"))["value"].to_pylist()
    return values


@pytest.mark.slow
def test_the_queue_that_a_server_shows_is_the_one_it_has(tmp_path: Path) -> None:
    """Ten chats at once for two slots: eight wait; meanwhile another endpoint hangs, and a third is away."""
    with RunningServer(Build(chat_slots=2, jitter_sigma=0)) as server, endpoint(never) as hanging:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sources = tuple(
            Source(name, url)
            for name, url in (("demo", server.base_url), ("hanging", hanging), ("away", away))
        )
        rows = [chat(number, 100 * MS + number * MS, tokens=20) for number in range(10)]
        job = ScrapeJob(sources, tmp_path / "run.parquet", every_s=0.1)
        began_s = time.monotonic()
        replayed = replay_rows(tmp_path, rows, server.base_url, scrape=job)
        took_s = time.monotonic() - began_s
    assert all(row["status"] == 200 for row in replayed.rows.values())
    found = read_scrape(tmp_path / "run.parquet", replayed.metadata)
    assert found is not None
    assert not partial_scrape_of(tmp_path / "run.parquet").exists()
    run = dataclasses.replace(RunTable.of(replayed.table, replayed.metadata), scraped=found)
    summary = summarise(run)
    assert summary.server is not None
    series = {one.quantity: one for one in summary.server.series}
    assert series["waiting"].largest == 8
    assert series["running"].largest == 2
    assert series["slots"].largest == 1
    first = summary.server.saturated[0]
    assert 0 <= first.since_s < 0.6
    health = {source.name: source for source in summary.server.sources}
    assert health["demo"].answered >= 0.5 * health["demo"].due
    assert health["away"].answered == health["hanging"].answered == 0
    assert "refused" in health["away"].last_error
    assert took_s < summary.duration_s + 10  # the hanging one was not waited for


def test_a_source_is_sampled_on_the_runs_own_grid(tmp_path: Path) -> None:
    metadata = run_metadata(zero_monotonic_ns=time.monotonic_ns() + 50 * MS)
    text = b"# TYPE tgi_queue_size gauge\ntgi_queue_size 7\nother 3\n"
    with endpoint(body(text)) as good, endpoint(body(b"gone", 404)) as bad, endpoint(body(b"\xff{ 3")) as odd:
        sources = (Source("good", f"{good}/metrics?x=1"), Source("bad", bad), Source("odd", odd))
        run = tmp_path / "a.parquet"
        scraper = ScraperProcess(ScrapeJob(sources, run, every_s=0.1))
        scraper.begin(metadata.zero_monotonic_ns)
        deadline_s = time.monotonic() + 20
        while not partial_scrape_of(run).exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        time.sleep(0.5)
        scraper.end()
    found = read_scrape(run, metadata)
    assert found is not None
    assert set(found.table["name"].to_pylist()) == {"tgi_queue_size", "up", "scrape_duration_seconds"}
    assert len(ups(found, "good")) >= 3
    assert set(ups(found, "good")) == {1.0}
    assert set(ups(found, "bad")) == {0.0}
    errors = {error for error in found.table["error"].to_pylist() if error}
    assert "HTTP 404" in errors
    # What was taken during another run is no part of this one.
    assert read_scrape(run, dataclasses.replace(metadata, zero_monotonic_ns=1)) is None


def test_a_killed_scraper_leaves_what_it_had(tmp_path: Path) -> None:
    run, metadata = tmp_path / "a.parquet", run_metadata(zero_monotonic_ns=time.monotonic_ns())
    with endpoint(body(b"tgi_queue_size 7\n")) as good:
        scraper = ScraperProcess(ScrapeJob((Source("good", good),), run, every_s=0.1))
        scraper.begin(metadata.zero_monotonic_ns)
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s and not (
            partial_scrape_of(run).exists() and partial_scrape_of(run).stat().st_size > 2000
        ):
            time.sleep(0.02)
        scraper.process.kill()
        scraper.end()
    assert not scrape_of(run).exists()
    for path in (run, run.with_name("a.parquet.partial")):
        found = read_scrape(path, metadata)
        assert found is not None
        assert 1.0 in ups(found, "good")


def test_a_scraper_that_was_never_told_to_begin_writes_nothing(tmp_path: Path) -> None:
    scraper = ScraperProcess(ScrapeJob((Source("a", "http://127.0.0.1:1"),), tmp_path / "a.parquet"))
    scraper.end()
    assert list(tmp_path.iterdir()) == []


def test_endpoints_have_names() -> None:
    asked = Scraping(
        scrape=["vllm=http://10.0.0.7:8000/metrics?a=b", "https://gpu:9400"],
        scrape_metrics=["x*"],
        scrape_every="2s",
    )
    job = scrape_job(Path("a.parquet"), asked)
    assert job is not None
    assert [source.name for source in job.sources] == ["vllm", "gpu:9400"]
    assert job.sources[0].url == "http://10.0.0.7:8000/metrics?a=b"
    assert (job.every_s, job.patterns) == (2.0, ("x*",))
    assert scrape_job(Path("a.parquet"), Scraping()) is None


@pytest.mark.parametrize(
    ("endpoints", "patterns", "every", "words"),
    [
        (["10.0.0.7:8000"], [], "1s", "[NAME=]http://HOST:PORT/metrics wanted"),
        (["ftp://x"], [], "1s", "[NAME=]http://HOST:PORT/metrics wanted"),
        (["http://x:port"], [], "1s", "[NAME=]http://HOST:PORT/metrics wanted"),
        (["http://user:secret@x"], [], "1s", "credentials in a URL"),
        (["a=http://x", "a=http://y"], [], "1s", "'a' names two endpoints"),
        ([], ["x"], "1s", "add --scrape URL"),
        (["http://x"], [], "1ms", "100ms or more wanted"),
        (["http://x"], [], "often", "--scrape-every"),
    ],
)
def test_what_can_not_be_scraped_is_refused(
    endpoints: list[str], patterns: list[str], every: str, words: str
) -> None:
    with pytest.raises(BadInput) as caught:
        scrape_job(
            Path("a.parquet"),
            Scraping(scrape=endpoints, scrape_metrics=patterns, scrape_every=every),
        )
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
