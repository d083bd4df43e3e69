"""Fixtures of the report's tests: sample values, and a browser tab."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from browser import Page, chromium_page
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


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[Page]:
    async with chromium_page(tmp_path / "profile") as page:
        yield page
