"""What a build before this one left when it was killed: spool, journal and marker, made by that build.

`left_by_older/` was left on 28 November 2026 by the build before spools were written by position: one request
in the journal's state, three in the spool only, one in flight.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from capture_rig import rows_of

from capture.failures import BadInput
from capture.recovery import recover_folder
from capture.segments import MARKER_NAME

LEFT = Path(__file__).parent / "left_by_older"


def lay_out(place: Path) -> tuple[Path, Path]:
    """The folder and the spool as that build left them."""
    folder, spool = place / "prod", place / "spool"
    folder.mkdir()
    shutil.copytree(LEFT / "proxy-0", spool / "proxy-0")
    shutil.copy(LEFT / "journal-000002.frames", folder)
    facts = (LEFT / "capture.json").read_text().replace("FOLDER", str(folder)).replace("SPOOL", str(spool))
    for marker in (folder / MARKER_NAME, spool / "capture.json"):
        marker.write_text(facts)
    return folder, spool


def test_all_of_it_becomes_rows(tmp_path: Path) -> None:
    folder, spool = lay_out(tmp_path)
    recovered = recover_folder(folder)
    assert (recovered.rows, recovered.in_flight, recovered.damaged) == (4, 1, ())
    rows = {row["path"]: row for row in rows_of(folder)}
    for number in range(3):
        row = rows[f"/v1/spooled/{number}"]
        assert (row["outcome"], row["status"], row["response_body"]) == ("complete", 200, b"ok")
        assert json.loads(row["request_body"]) == {"model": row["model"]} == {"model": f"m{number}"}
        assert "not-on-disk" not in str(row)
    assert rows["/v1/in-flight"]["outcome"] == "in_flight"
    assert not spool.exists()


def test_what_a_later_version_left_names_the_version_to_run_and_stays(tmp_path: Path) -> None:
    folder, spool = lay_out(tmp_path)
    marker = folder / MARKER_NAME
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"left_format": 99, "tool_version": "7.2"}))
    (folder / "journal-000002.frames").unlink()
    with pytest.raises(BadInput, match=r"left by peaktape 7\.2, .* run `peaktape recover` of 7\.2 or later"):
        recover_folder(folder)
    assert marker.exists()
    assert (spool / "proxy-0").exists()
