"""A run with what its server said meanwhile: which endpoints were asked for, and reading both files."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from replay.analysis.run_table import RunTable
    from replay.cli.replay_flags import Scraping
    from replay.engine.scrape_format import Source
    from replay.engine.scraping import ScrapeJob

_NAMED: Final = re.compile(r"(?P<name>[\w.-]{1,64})=(?P<url>https?://.*)")
_OFTEN_S: Final = 0.1


def run_table(path: Path, keys: Keys | None = None) -> RunTable:
    """A run's columns, with the samples of its server's metrics where there are any.

    Decrypted with `keys` if it is encrypted. Raises `BadInput`, and `KeyRefused` for a missing or wrong key.
    """
    import pyarrow as pa

    from replay.analysis.run_table import COLUMNS, RunTable
    from replay.engine.run_format import read_run
    from replay.engine.scrape_format import read_scrape

    table, metadata = read_run(path, keys, columns=COLUMNS)
    run = dataclasses.replace(RunTable.of(table, metadata), scraped=read_scrape(path, metadata))
    del table
    pa.default_memory_pool().release_unused()  # what reading took beside, before the next run is read
    return run


def scrape_job(run: Path, asked: Scraping) -> ScrapeJob | None:
    """What to sample during a replay into `run`, None for nothing; raises `BadInput`."""
    from capture.failures import BadInput
    from capture.quantities import parse_duration_ns
    from replay.engine.scraping import ScrapeJob

    every_s = parse_duration_ns(asked.scrape_every, "--scrape-every") / 1e9
    if every_s < _OFTEN_S:
        raise BadInput(f"--scrape-every: {asked.scrape_every} found, 100ms or more wanted")
    if not asked.scrape:
        if asked.scrape_metrics:
            raise BadInput("--scrape-metrics: no endpoint to take them from; add --scrape URL")
        return None
    sources = tuple(map(_source, asked.scrape))
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"--scrape: {name!r} names two endpoints; give each its own, as NAME=URL")
    return ScrapeJob(sources, run.absolute(), every_s, tuple(asked.scrape_metrics or ()))


def _source(text: str) -> Source:
    from capture.failures import BadInput
    from replay.engine.scrape_format import Source

    named = _NAMED.fullmatch(text)
    url = named["url"] if named else text
    try:
        parts = urllib.parse.urlsplit(url)
        authority = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError as error:
        raise BadInput(
            f"--scrape: {text!r} found ({error}), [NAME=]http://HOST:PORT/metrics wanted"
        ) from error
    if parts.scheme not in ("http", "https") or not authority:
        raise BadInput(f"--scrape: {text!r} found, [NAME=]http://HOST:PORT/metrics wanted")
    if parts.username or parts.password:
        raise BadInput("--scrape: credentials in a URL would be kept with the run; use an endpoint without")
    return Source(named["name"] if named else authority, url)
