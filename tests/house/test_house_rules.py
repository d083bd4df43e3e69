"""The house: imports only go down, heavy libraries stay in their rooms, names in `capture/` are safe."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = (
    *("capture", "replay.transform", "replay.engine", "replay.importers"),
    *("replay.analysis", "replay.report", "replay.cli"),
)
"""From the ground up. `replay.demo` stands beside: it may use `capture`, and only the CLI may use it."""

ROOMS = {
    "mitmproxy": (
        *("capture.filter_stages", "capture.flow_choice", "capture.flow_parts", "capture.bare_addons"),
        *("capture.addon", "capture.proxy", "capture.upgraded_connections", "capture.http_versions"),
        *(
            "capture.http1_framing",
            "capture.http1_layers",
            "capture.connections",
            "capture.direct_hooks",
            "capture.flow_control",
            "capture.importers.mitm_flows",
        ),
    ),
    "aiohttp": ("replay.engine.session_sender", "replay.engine.session_connection", "replay.demo"),
    "httptools": ("replay.engine.wire_connection",),
    "typer": ("replay.cli",),
    "plotly": ("replay.report",),
    "plotext": ("replay.report",),
    "cryptography": ("capture.encryption_keys", "capture.sealing", "capture.importers.sorted_spool"),
}


@functools.cache
def modules() -> dict[str, tuple[str, ...]]:
    """What each module imports, anywhere in it."""
    found = {}
    for package in ("capture", "replay"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = tuple(imports(ast.parse(path.read_text())))
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "absolute imports only"
            yield node.module


def floor_of(module: str) -> int | None:
    for at, floor in enumerate(FLOORS):
        if module == floor or module.startswith(f"{floor}."):
            return at
    return None


def test_imports_only_go_down() -> None:
    for module, imported in each_import():
        here, there = floor_of(module), floor_of(imported)
        if here is not None and there is not None:
            assert there <= here, f"{module} imports {imported}"
        if imported.startswith("replay.demo"):
            assert module.startswith(("replay.demo", "replay.cli")), f"{module} imports {imported}"
        if module.startswith("replay.demo") and imported.startswith("replay."):
            assert imported.startswith("replay.demo"), f"{module} imports {imported}"


def test_heavy_libraries_stay_in_their_rooms() -> None:
    for module, imported in each_import():
        allowed = ROOMS.get(imported.partition(".")[0])
        if allowed is not None:
            assert module.startswith(allowed), f"{module} imports {imported}"


def each_import() -> Iterator[tuple[str, str]]:
    return ((module, imported) for module, found in modules().items() for imported in found)


def test_traces_and_runs_are_opened_and_written_by_the_one_door_that_encrypts() -> None:
    others = (
        *("replay.transform.schedule_format", "replay.demo.arrivals", "replay.cli.history"),
        "replay.engine.scrape_format",
    )
    # These hold no content.
    calls = re.compile(r"pq\.(ParquetFile|ParquetWriter|read_\w+|write_\w+)\(")
    for package in ("capture", "replay"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if calls.search(path.read_text()):
                assert name in ("capture.encrypted_parquet", *others)


def test_there_are_no_circles() -> None:
    graph = {
        name: {i for i in found if i.startswith(("capture", "replay"))} for name, found in modules().items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"circle: {' → '.join((*path, name))}"
        if name in done:
            return
        for imported in graph.get(name, ()):
            visit(imported, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_in_capture_is_named_like_a_stdlib_one() -> None:
    names = {path.stem for path in (ROOT / "capture").glob("*")}
    assert not names & set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", ["replay", "capture", "replay.cli"])
def test_importing_a_package_stays_light(package: str) -> None:
    code = (
        f"import sys, {package}; heavy = {{'mitmproxy', 'aiohttp', 'pyarrow', 'numpy', 'scipy', 'plotly'}};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == []


def test_files_stay_small() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for package in ("capture", "replay")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    ]
    assert long == []
