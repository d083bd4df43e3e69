"""A page for every reader: who sees few colours, who sees little contrast, who has it read aloud."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from browser import Page

from replay.analysis.values import DiffResult
from replay.report.html import diff_page

THEMES = {"light": 0, "dark": 1}
SEEN_BY = {
    "all colours": np.eye(3),
    "no red (protanopia)": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green (deuteranopia)": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue (tritanopia)": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""What of linear RGB is left: G. Machado, M. Oliveira, L. Fernandes, IEEE TVCG 15 (2009), severity 1."""


def linear_rgb(name: str, theme: str) -> np.ndarray:
    """A colour of the page's style sheet in linear RGB, float64[3] of 0 … 1 (IEC 61966-2-1)."""
    css = (resources.files("replay.report") / "assets" / "page.css").read_text("utf-8")
    colour = re.findall(rf"--{name}: #(\w{{6}})", css)[THEMES[theme]]
    s = np.array([int(colour[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB under D65, float64[3]."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    t = np.array(to_xyz) @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eye", SEEN_BY)
@pytest.mark.parametrize("pair", [("baseline", "candidate"), ("regression", "improved")])
def test_colours_that_mean_different_things_look_different(
    pair: tuple[str, str], eye: str, theme: str
) -> None:
    one, other = (lab(np.array(SEEN_BY[eye]) @ linear_rgb(name, theme)) for name in pair)
    assert np.linalg.norm(one - other) > 20, "ΔE; 2 is just seen, 20 is another colour"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["text", "muted", "regression", "improved"])
def test_words_stand_out_from_the_ground(name: str, theme: str) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear_rgb(one, theme)) for one in (name, "ground"))
    assert (high + 0.05) / (low + 0.05) >= 4.5, "WCAG 2, 1.4.3"


@pytest.mark.slow
async def test_a_screen_reader_finds_verdict_headings_charts_and_figures(
    chromium: Page, diff: DiffResult, tmp_path: Path
) -> None:
    path = tmp_path / "diff.html"
    path.write_text(diff_page(diff, ()), "utf-8")
    await chromium.open(path.as_uri())
    await chromium.call("Accessibility.enable")
    told = await chromium.call("Accessibility.getFullAXTree")
    found: dict[str, list[str]] = {}
    for node in told["nodes"]:
        if not node["ignored"]:
            name = node.get("name", {}).get("value", "")
            found.setdefault(node["role"]["value"], []).append(name.strip())
    assert any("Regression" in name for name in found["heading"] + found["StaticText"])
    assert {"Key figures", "What changed", "Shift function", "Over time", "Single requests"} <= set(
        found["heading"]
    )
    charts = await chromium.value("document.querySelectorAll('.chart').length")
    assert sum(len(name) > 20 for name in found.get("image", []) + found.get("figure", [])) >= charts
    assert len(found["table"]) >= 5
    assert all(found["combobox"]), "each choice has a name"
    assert any("TTFT" in name for name in found["rowheader"] + found["cell"] + found["StaticText"])
