"""Where the real public recordings lie, when they do: a `shared` folder beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

TRACES = Path(__file__).resolve().parents[2] / ".." / "shared" / "traces"


def real(name: str) -> Path:
    """The recording `name`; skips the test when it is not there."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"shared/traces/{name} is not beside this checkout")
    return path
