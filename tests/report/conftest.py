"""Fixtures of the report's tests: sample values, and a browser tab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from browser import Page, chromium_page, running_chromium
from sample_values import hostile_diff, invalid_run, sample_diff, sample_run

from replay.analysis.values import DiffResult, RunSummary


@pytest.fixture
def run() -> RunSummary:
    return sample_run()


@pytest.fixture
def stopped_run() -> RunSummary:
    return invalid_run()


@pytest.fixture
def diff() -> DiffResult:
    return sample_diff()


@pytest.fixture
def spoiled_diff() -> DiffResult:
    return hostile_diff()


@pytest.fixture(scope="session")
def chromium_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One browser for all tests of a process: a tab is as fresh, since no page keeps anything."""
    with running_chromium(tmp_path_factory.mktemp("chromium") / "profile") as port:
        yield port


@pytest.fixture
async def chromium(chromium_port: int) -> AsyncIterator[Page]:
    async with chromium_page(chromium_port) as page:
        yield page
