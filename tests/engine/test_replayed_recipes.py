"""A recipe replayed for real: phases in the run, prompts and models as the target gets them, all paired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from connection_rig import Arrival, site
from replay_rig import MS, chat

from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.cli.ordering import content_of
from replay.engine.run_format import read_run
from replay.transform.content_rules import CLONES, HITS, UNIQUE, ContentRules
from replay.transform.schedule_format import Lineage
from tests.command_line import peaktape_here

RECIPE = """\
seed: 3
shapes:
  - spike: {at: 40%, for: 40%, x: 3, name: launch}
content:
  models: {demo-chat: other}
  endpoints: {/v1/chat/completions: /v2/chat}
"""


def words(arrival: Arrival) -> str:
    found: str = json.loads(arrival.body)["messages"][0]["content"]
    return found


@pytest.mark.slow
def test_a_replayed_recipe_says_what_it_was_asked_to_and_names_its_phases(tmp_path: Path) -> None:
    rows = [chat(number, number * 25 * MS) | {"model": "demo-chat"} for number in range(41)]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    (tmp_path / "r.yml").write_text(RECIPE)
    wide = ("--max-lateness", "9s", "--max-lateness-p99", "9s")
    with site() as found:
        given = ("replay", "t.parquet", "--recipe", "r.yml", "--target", found.url)
        ended = peaktape_here(*given, "-o", "run.parquet", *wide, cwd=tmp_path)
    assert ended.returncode in (0, 3), ended.stderr
    table, metadata = read_run(tmp_path / "run.parquet")
    assert metadata.steps == (
        "spike at=40%,for=40%,x=3,name=launch",
        "clones' prompts unique",
        "model demo-chat to other",
        "endpoint /v1/chat/completions to /v2/chat",
    )
    run = table.to_pylist()
    phases = [row["phase"] for row in sorted(run, key=lambda row: row["due_ns"])]
    assert phases == ["base"] * 16 + ["launch"] * 48 + ["launch-recover"] * 9
    assert {(row["endpoint"], row["model"], row["status"]) for row in run} == {
        ("POST /v2/chat", "other", 200)
    }
    assert len(found.arrivals) == len(run) == 73
    said = {arrival.tag: words(arrival) for arrival in found.arrivals}
    for tag, text in said.items():
        request, copy = tag.split("/")
        recorded = f"say number {request[1:]}"
        assert text == recorded if copy == "0" else text.endswith(f" {recorded}")
    assert len(set(said.values())) == 73
    assert {json.loads(arrival.body)["model"] for arrival in found.arrivals} == {"other"}
    assert all(arrival.head.startswith(b"POST /v2/chat ") for arrival in found.arrivals)


def test_prompts_that_begin_anew_in_every_turn_can_not_be_woven() -> None:
    def lineage(rules: ContentRules) -> Lineage:
        return Lineage("/t.parquet", "abc", 3, (), 0, rewrite={"content": rules.to_json()})

    clones = ContentRules(prompts=CLONES)
    assert content_of(lineage(clones), weaving=True) == clones
    assert content_of(lineage(ContentRules(prompts=UNIQUE)), weaving=False) is not None
    for rules in (ContentRules(prompts=UNIQUE), ContentRules(prompts=HITS, hits=0.5)):
        with pytest.raises(
            BadInput, match="--weave: the schedule gives every request a beginning of its own"
        ):
            content_of(lineage(rules), weaving=True)
