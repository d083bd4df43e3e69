"""Every verb with `--key`: what it writes nobody reads without the key, what it reads is as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from key_rig import CANARY, KEY, OTHER, holding, key_file, keys
from typer.testing import CliRunner, Result

from capture.compaction import write_segment
from capture.encrypted_parquet import is_encrypted
from capture.failures import BadInput, KeyRefused
from capture.segments import set_damaged_aside
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace
from replay.cli import app
from replay.demo.launch import RunningServer
from replay.engine.run_format import partial_of, read_run

MS = 1_000_000


def trace_row(number: int) -> dict[str, Any]:
    body = {"model": "demo-embed", "input": f"{CANARY} {number}"}
    return {
        "request_id": f"r{number}",
        "turn": 0,
        "arrival_ns": number * 10 * MS,
        "method": "POST",
        "scheme": "http",
        "host": "production.test:80",
        "path": f"/v1/embeddings?n={CANARY}",
        "http_version": "HTTP/1.1",
        "request_headers": [("content-type", "application/json"), ("x-who", CANARY)],
        "request_body": json.dumps(body).encode(),
        "request_body_ns": number * 10 * MS,
        "outcome": "complete",
        "status": 200,
        "response_body": CANARY.encode(),
        "response_bytes": len(CANARY),
        "chunk_ns": [number * 10 * MS + 1],
        "chunk_bytes": [len(CANARY)],
        "stream": False,
    }


def write(path: Path, rows: int = 20, key: str | None = KEY) -> Path:
    about = TraceMetadata(0, CANARY, upstreams=(CANARY,))
    batch = batch_of([trace_row(number) for number in range(rows)])
    write_trace(path, [batch], about, keys=keys(key) if key else None)
    return path


def peaktape(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, (arguments, result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    """What a command that ends with a failure says, one line of it."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, BadInput), (arguments, result.output, result.exception)
    assert result.exception.exit_code == 2
    said = str(result.exception)
    assert "\n" not in said
    return said


def test_a_trace_with_a_key_is_the_same_trace_and_holds_no_word_of_it(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.parquet", key=None)
    secret = write(tmp_path / "secret.parquet")
    assert (is_encrypted(plain), is_encrypted(secret)) == (False, True)
    found = [open_trace(path, keys()) for path in (plain, secret)]
    assert found[0].metadata == found[1].metadata
    assert list(found[0].iter_batches()) == list(found[1].iter_batches())
    assert not found[1].may_lack("arrival_ns")  # statistics are encrypted with the rest, and read
    assert holding(tmp_path, CANARY) == ["plain.parquet"]
    assert b"request_body" not in secret.read_bytes()


def test_no_key_a_wrong_key_and_a_right_one_in_one_process(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    for _ in range(2):  # what is cached of one key serves no other
        assert open_trace(path, keys()).rows == 20
        with pytest.raises(KeyRefused, match=r"t\.parquet: encrypted, and no key is given; add --key"):
            open_trace(path)
        with pytest.raises(KeyRefused, match=r"t\.parquet: encrypted with another key than env:K gives"):
            open_trace(path, keys(OTHER))


def test_plain_and_encrypted_segments_are_one_trace(tmp_path: Path) -> None:
    write(tmp_path / "segment-000001.parquet", key=None)
    write(tmp_path / "segment-000002.parquet")
    assert open_trace(tmp_path, keys()).rows == 40


def test_damage_is_told_apart_from_a_wrong_key(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(BadInput, match="not a whole Parquet file"):
        open_trace(path, keys())
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(BadInput, match="damaged data"):
        list(open_trace(path, keys()).iter_batches())


def test_a_segment_without_its_key_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    segment = tmp_path / "segment-000001.parquet"
    write_segment(segment, [batch_of([trace_row(1)])], TraceMetadata(0, "test"), keys())
    for wrong in (None, keys(OTHER)):
        with pytest.raises(KeyRefused):
            list(set_damaged_aside(tmp_path, wrong))
    assert list(set_damaged_aside(tmp_path, keys())) == []
    segment.write_bytes(segment.read_bytes()[:-9])
    assert [path.name for path in set_damaged_aside(tmp_path, keys())] == ["segment-000001.parquet.damaged"]


def test_import_and_export_there_and_back(tmp_path: Path) -> None:
    given, inside = ("--key", f"file:{key_file(tmp_path)}"), tmp_path / "inside"
    inside.mkdir()
    trace = write(inside / "t.parquet")
    said = peaktape("export", "har", trace, "-o", tmp_path / "t.har", *given).output
    assert "is not encrypted" in said
    assert CANARY in (tmp_path / "t.har").read_text()
    peaktape("import", "har", tmp_path / "t.har", "-o", inside / "back.parquet", *given)
    before, after = (open_trace(inside / name, keys()) for name in ("t.parquet", "back.parquet"))
    for name in ("request_body", "response_body", "arrival_ns"):
        assert before.column(name).equals(after.column(name))
    targets = "".join(json.dumps({"method": "GET", "url": f"http://h/{CANARY}"}) + "\n" for _ in range(3))
    (tmp_path / "targets.jsonl").write_text(targets)
    peaktape("import", "vegeta", tmp_path / "targets.jsonl", "-o", inside / "v.parquet", *given)
    assert holding(inside, CANARY) == []


@pytest.mark.parametrize("verb", ["inspect", "audit"])
def test_reading_verbs_take_the_key_by_option_and_by_environment(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, key = write(tmp_path / "t.parquet"), key_file(tmp_path)
    code = 1 if verb == "audit" else 0  # x-who is on no list
    by_option = peaktape(verb, trace, "--json", "--key", f"file:{key}", code=code)
    monkeypatch.setenv("PEAKTAPE_KEY", "env:OURS")
    monkeypatch.setenv("OURS", KEY)
    assert peaktape(verb, trace, "--json", code=code).output == by_option.output
    monkeypatch.setenv("OURS", OTHER)
    assert "encrypted with another key than env:OURS gives" in refused(verb, trace)
    monkeypatch.delenv("PEAKTAPE_KEY")
    assert "no key is given" in refused(verb, trace)
    assert peaktape(verb, write(tmp_path / "plain.parquet", key=None), "--key", f"file:{key}", code=code)


@pytest.mark.slow
def test_transform_replay_report_and_diff_of_an_encrypted_trace(tmp_path: Path) -> None:
    trace, key = write(tmp_path / "t.parquet", rows=30), key_file(tmp_path)
    given = ("--key", f"file:{key}")
    peaktape("transform", trace, "-o", tmp_path / "s.schedule.parquet", "--speed", "2", *given)
    with RunningServer() as server:
        fire = ("--target", server.base_url, "-o", tmp_path / "run.parquet", "--bodies", "keep")
        assert "no key is given" in refused("replay", tmp_path / "s.schedule.parquet", *fire)
        lenient = ("--max-lateness-p99", "1s", "--max-lateness", "2s")
        CliRunner().invoke(  # valid or not: the machine's doing
            app, ["replay", str(tmp_path / "s.schedule.parquet"), *map(str, (*fire, *lenient, *given))]
        )
    table, _ = read_run(tmp_path / "run.parquet", keys())
    assert table.num_rows == 30
    assert set(table["status"].to_pylist()) == {200}
    with pytest.raises(KeyRefused, match="no key is given"):
        read_run(tmp_path / "run.parquet")
    run = tmp_path / "run.parquet"
    report = CliRunner().invoke(app, ["report", str(run), "--json", *given])
    assert json.loads(report.stdout)["scheduled"] == 30
    assert "another key" in refused("diff", run, run, "--key", f"file:{key_file(tmp_path, 'other', OTHER)}")
    compared = CliRunner().invoke(app, ["diff", str(run), str(run), "--json", *given])
    assert json.loads(compared.stdout)["schema"] == "peaktape.diff"
    assert not partial_of(run).exists()
    assert holding(tmp_path, CANARY) == []
    assert b"embedding" in table["body"][0].as_py()
    assert holding(tmp_path, "embedding") == []


@pytest.mark.parametrize("verb", ["import", "export", "transform", "report", "replay", "recover"])
def test_nothing_is_written_over_the_key(tmp_path: Path, verb: str) -> None:
    trace, key = write(tmp_path / "t.parquet"), key_file(tmp_path, "key.parquet")
    har = tmp_path / "t.har"
    har.write_text("{}")
    options = {
        "import": ("import", "har", har, "-o", key, "--overwrite"),
        "export": ("export", "csv", trace, "-o", key, "--overwrite"),
        "transform": ("transform", trace, "-o", key, "--overwrite"),
        "report": ("report", trace, "--html", key, "--overwrite"),
        "replay": ("replay", trace, "--target", "http://127.0.0.1:1", "-o", key, "--overwrite"),
        "recover": ("recover", key),
    }[verb]
    if verb == "recover":
        (tmp_path / "key.parquet.segments").mkdir()
    said = refused(*options, "--key", f"file:{key}")
    assert "exists already" in said if verb == "recover" else "is the input" in said
    assert key.read_text() == KEY + "\n"


def test_every_column_is_encrypted_and_not_the_bodies_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    plain = write(tmp_path / "plain.parquet", key=None).read_bytes()
    for word in (b"production.test", b"/v1/embeddings", b"POST", b"complete", b"arrival_ns", b"peaktape"):
        assert word in plain
        assert word not in path.read_bytes().replace(b'"masterKeyID":"peaktape"', b"")
