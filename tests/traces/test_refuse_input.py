"""Nothing is written over what is read: an output that is an input, or a part of one, is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from capture.failures import BadInput
from capture.trace_writer import refuse_input, replace_when_whole


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a symbolic and a hard link to it, and a folder of segments under two names."""
    (tmp_path / "prod.parquet").write_bytes(b"precious")
    (tmp_path / "soft.parquet").symlink_to("prod.parquet")
    os.link(tmp_path / "prod.parquet", tmp_path / "hard.parquet")
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "segment-000001.parquet").write_bytes(b"precious")
    (tmp_path / "linked").symlink_to("seg")
    os.link(tmp_path / "seg" / "segment-000001.parquet", tmp_path / "first.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "source", "words"),
    [
        ("prod.parquet", "prod.parquet", "is the input prod.parquet"),
        ("seg/../prod.parquet", "prod.parquet", "is the input prod.parquet"),
        ("soft.parquet", "prod.parquet", "is the input prod.parquet"),
        ("prod.parquet", "soft.parquet", "is the input soft.parquet"),
        ("hard.parquet", "prod.parquet", "is the input prod.parquet"),
        ("seg", "seg", "lies in the input folder seg"),
        ("seg/segment-000001.parquet", "seg/", "lies in the input folder seg/"),
        ("seg/new.parquet", "seg", "lies in the input folder seg"),
        ("linked/new.parquet", "seg", "lies in the input folder seg"),
        ("seg/new.parquet", "linked", "lies in the input folder linked"),
        ("first.parquet", "seg", "is the input seg/segment-000001.parquet"),
        ("seg/segment-000001.parquet", "seg/*.parquet", "matches the input seg/*.parquet"),
        ("seg/new.parquet", "seg/*.parquet", "matches the input seg/*.parquet"),
        ("linked/new.parquet", "seg/*.parquet", "matches the input seg/*.parquet"),
        ("first.parquet", "s*g/*.parquet", "is the input seg/segment-000001.parquet"),
    ],
)
def test_an_output_that_belongs_to_an_input(output: str, source: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        refuse_input(Path(output), ["elsewhere.parquet", None, source])
    text = str(refused.value)
    assert text.startswith(f"{output}: {words}, ")
    assert text.endswith("choose another name")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("new.parquet", "prod.parquet"),
        ("new.parquet", "seg"),
        ("segments.html", "seg"),
        ("prod.parquet", "seg"),
        ("seg.parquet", "seg/*.parquet"),
        ("seg/report.html", "seg/*.parquet"),
        ("new.parquet", "nothing.parquet"),
        ("new/run.parquet", "prod.parquet"),
    ],
)
def test_an_output_of_its_own(output: str, source: str) -> None:
    refuse_input(Path(output), [source, None])


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def hard_links(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with hard links, and without."""
    if not request.param:

        def refused(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refused)


def begin_and_write(name: str, words: str, *, overwrite: bool = False, meanwhile: str = "") -> None:
    with replace_when_whole(Path(name), overwrite=overwrite) as temporary:
        temporary.write_text(words)
        if meanwhile:
            begin_and_write(name, meanwhile, overwrite=overwrite)


@pytest.mark.usefixtures("hard_links")
def test_of_two_that_write_one_output_at_once_the_later_is_refused(place: Path) -> None:
    before = sorted(place.iterdir())
    with pytest.raises(BadInput, match=r"new\.parquet: exists already, another command wrote it meanwhile"):
        begin_and_write("new.parquet", "the later's", meanwhile="the first's")
    assert (place / "new.parquet").read_text() == "the first's"
    begin_and_write("new.parquet", "the later's", meanwhile="the first's", overwrite=True)
    assert (place / "new.parquet").read_text() == "the later's"  # as both were told to
    begin_and_write("other.parquet", "alone")
    assert sorted(place.iterdir()) == sorted([*before, place / "new.parquet", place / "other.parquet"])
