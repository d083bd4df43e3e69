"""The frame of a page: one self-contained HTML file, its policy, its scripts, and the parts it is built of.

The page's policy (CSP) forbids every fetch and every script but the two embedded ones, by their hashes. What
stands on a page is decided in `html` (runs) and `inspect_page` (traces); style and script lie in assets/.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from string import Template
from typing import Any

from capture.__about__ import VERSION


def section(title: str, body: str, *, folded: bool = False) -> str:
    """A part of the page under a heading; `folded` ones open on demand."""
    heading = f"<h2>{html.escape(title)}</h2>"
    if folded:
        return f"<section><details><summary>{heading}</summary>{body}</details></section>"
    return f"<section>{heading}{body}</section>"


def chart(name: str, label: str) -> str:
    """The place of the chart `name` of the page's data; `label` says to a screen reader what it shows."""
    return f'<div class="chart" id="chart-{name}" role="img" aria-label="{html.escape(label)}"></div>'


def select(
    name: str, label: str, options: Sequence[tuple[str, str]], chosen: str = "", *, chart: str = ""
) -> str:
    """A choice among `options` (value, text); with `chart`, of which variant of that chart is drawn."""
    drawn = f' data-chart="{chart}"' if chart else ""
    items = "".join(
        f'<option value="{html.escape(v)}"{" selected" if v == chosen else ""}>{html.escape(t)}</option>'
        for v, t in options
    )
    return f'<label class="choice"><span>{label}</span> <select id="{name}"{drawn}>{items}</select></label>'


def legend(items: Sequence[tuple[str, str]]) -> str:
    """Keys of a chart: (kind of mark, name)."""
    keys = "".join(
        f'<li><span class="key {kind}" aria-hidden="true"></span>{html.escape(name)}</li>'
        for kind, name in items
    )
    return f'<ul class="legend">{keys}</ul>'


def build_keys(names: Sequence[str]) -> list[tuple[str, str]]:
    """The lines of one build, or of two: in the colours of baseline and candidate."""
    return [(f"line {colour}", name) for colour, name in zip(("baseline", "candidate"), names, strict=False)]


def fact_list(items: Iterable[tuple[str, str]]) -> str:
    """Names with what they stand for, HTML that is escaped already."""
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in items)
    return f'<dl class="facts">{listed}</dl>'


def table(caption: str, headings: Sequence[str], lines: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table from HTML that is escaped already; it scrolls in its own frame where it is too wide."""
    return frame(caption, headings, f"<tbody>{rows(lines)}</tbody>", kind)


def rows(cells: Iterable[Sequence[str]]) -> str:
    """Rows of a table, the first cell of each as its header; HTML that is escaped already."""
    return "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in cells
    )


def frame(caption: str, headings: Sequence[str], bodies: str, kind: str) -> str:
    """A table around `bodies`, in a frame that scrolls."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<div class="frame" tabindex="0"><table class="{kind}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead>{bodies}</table></div>"
    )


def page(
    verb: str,
    title: str,
    sections: Sequence[str],
    charts: dict[str, Any],
    scripts: Sequence[str] = ("page.js",),
) -> str:
    """The whole page of a verb: its sections, the data of their charts, and the assets that draw those."""
    from plotly.offline import get_plotlyjs  # a heavy import, and only pages need it

    assets = resources.files("replay.report") / "assets"
    plotly, script = get_plotlyjs(), "".join((assets / name).read_text("utf-8") for name in scripts)
    return Template((assets / "page.html").read_text("utf-8")).substitute(
        verb=verb,
        title=html.escape(title),
        script_hashes=" ".join(_script_hash(source) for source in (plotly, script)),
        style=(assets / "page.css").read_text("utf-8"),
        body="\n".join(sections),
        charts=_json_for_script(charts),
        plotly=plotly,
        script=script,
        version=html.escape(VERSION),
    )


def _script_hash(source: str) -> str:
    """The CSP source expression of an inline script; raises `ValueError` for one that HTML would cut."""
    if "</script" in source.lower() or "\r" in source:
        raise ValueError("an embedded script holds text that would change or end it inside a page")
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _json_for_script(value: Any) -> str:
    """JSON that holds no character with a meaning in HTML."""
    encoded = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return encoded.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
