"""What machines read: JUnit XML, Markdown for a pull request, and JSON that keeps to its published schema."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import jsonschema
import pytest
from sample_values import HOSTILE

import replay.report
from replay.analysis.values import DiffResult, Objective, ObjectiveResult, RunSummary, Verdict
from replay.report import json_schema
from replay.report.as_json import diff_json, invalid_diff_json, run_json
from replay.report.junit import diff_junit, invalid_diff_junit, run_junit
from replay.report.markdown import diff_markdown, escaped, invalid_diff_markdown, run_markdown

WHY = "no verdict: nobody answered"
SCHEMAS = Path(replay.report.__file__).parent / "schemas"
MADE = {json_schema.RUN_FILE: json_schema.run_schema, json_schema.DIFF_FILE: json_schema.diff_schema}


def validate(document: dict[str, Any], name: str) -> None:
    schema = json.loads((SCHEMAS / name).read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("name", MADE)
def test_the_published_schema_is_what_the_values_make(name: str) -> None:
    """After a wanted change of values: `PEAKTAPE_UPDATE_GOLDEN=1 pytest tests/report` writes it anew."""
    made = json.dumps(MADE[name](), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("PEAKTAPE_UPDATE_GOLDEN") == "1":
        (SCHEMAS / name).write_text(made, "utf-8")
    assert (SCHEMAS / name).read_text("utf-8") == made


def test_documents_keep_to_the_schema(run: RunSummary, stopped_run: RunSummary, diff: DiffResult) -> None:
    validate(run_json(run), json_schema.RUN_FILE)
    validate(run_json(stopped_run), json_schema.RUN_FILE)
    validate(diff_json(diff), json_schema.DIFF_FILE)
    validate(invalid_diff_json(run, stopped_run, WHY), json_schema.DIFF_FILE)
    odd = (
        ObjectiveResult(Objective("recovery", None, 3e9, phase="spike"), math.inf, False, 0.0),
        ObjectiveResult(Objective("shed_rate", None, 0.0), 0.1, False, 0.9, math.inf, 10),
    )
    validate(run_json(dataclasses.replace(run, objectives=odd, goodput_per_s=math.nan)), json_schema.RUN_FILE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "peaktape.other"),
        (("scheduled",), "many"),
        (("verdict",), "splendid"),
        (("baseline", "groups", 0, "metrics", 0, "quantile_ns", "p50"), "fast"),
        (("baseline", "peaks", 0, "latency", "settled"), "perhaps"),
        (("effects", 0, "verdict"), None),
    ],
)
def test_the_schema_refuses_what_is_none(diff: DiffResult, path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(diff_json(diff)))
    name = json_schema.DIFF_FILE
    if path == ("scheduled",):
        document, name = (
            document["baseline"] | {"schema": "peaktape.run", "schema_version": 1},
            json_schema.RUN_FILE,
        )
        document["tool_version"] = "1"
        validate(document, name)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document, name)


@pytest.mark.parametrize("key", ["effects", "baseline", "tolerance_ratio"])
def test_the_schema_misses_what_is_missing(diff: DiffResult, key: str) -> None:
    document = diff_json(diff)
    del document[key]
    with pytest.raises(jsonschema.ValidationError):
        validate(document, json_schema.DIFF_FILE)


def assert_counts(root: Xml.Element) -> None:
    """What a suite says of its cases is what it holds."""
    for suite in (root, *root.findall("testsuite")):
        cases = suite.findall(".//testcase")
        found = {"tests": len(cases)} | {
            f"{kind}s" if kind != "skipped" else kind: sum(case.find(kind) is not None for case in cases)
            for kind in ("failure", "error", "skipped")
        }
        assert {name: int(suite.attrib[name]) for name in found} == found
        assert all(case.attrib["classname"] for case in cases)


def cases_of(document: str) -> dict[tuple[str, str], Xml.Element]:
    root = Xml.fromstring(document)  # noqa: S314 - our own text
    assert root.tag == "testsuites"
    assert_counts(root)
    return {
        (suite.attrib["name"], case.attrib["name"]): case
        for suite in root.findall("testsuite")
        for case in suite.findall("testcase")
    }


def test_a_run_is_checks_and_objectives(run: RunSummary) -> None:
    cases = cases_of(run_junit(run))
    assert len(cases) == len(run.validity.checks) + len(run.objectives)
    assert {child.tag for case in cases.values() for child in case} == {"system-out"}
    missed = dataclasses.replace(run.objectives[0], met=False)
    missing = cases_of(run_junit(dataclasses.replace(run, objectives=(missed, run.objectives[1]))))
    (failed,) = [name for name, case in missing.items() if case.find("failure") is not None]
    assert failed == ("build-a: SLO", "TTFT p99 ≤ 320 ms")


def test_an_invalid_run_is_errors_and_no_judgement(run: RunSummary, stopped_run: RunSummary) -> None:
    cases = cases_of(run_junit(dataclasses.replace(stopped_run, objectives=run.objectives)))
    errors = {name[1] for name, case in cases.items() if case.find("error") is not None}
    assert errors == {"lateness p99", "generator CPU"}
    assert all(case.find("skipped") is not None for name, case in cases.items() if "SLO" in name[0])
    refused = cases_of(invalid_diff_junit(run, stopped_run, WHY))
    assert refused["build-b against build-a", "verdict"].find("error") is not None


def test_a_comparison_fails_where_it_regresses(diff: DiffResult) -> None:
    cases = cases_of(diff_junit(diff))
    judged = {name[1]: case for name, case in cases.items() if name[0] == "build-b against build-a"}
    assert judged["verdict"].find("failure") is not None
    assert judged["all requests: TTFT"].find("failure") is not None
    assert judged["all requests: ITL"].find("failure") is None
    same = dataclasses.replace(diff, verdict=Verdict.EQUIVALENT, effects=(), outcome_changes=())
    missed = {name for name, case in cases_of(diff_junit(same)).items() if case.find("failure") is not None}
    assert missed == {("build-b: SLO", "TTFT p99 ≤ 320 ms")}  # the baseline's own SLO is no case
    same = dataclasses.replace(same, candidate=dataclasses.replace(diff.candidate, objectives=()))
    assert not any(case.find("failure") is not None for case in cases_of(diff_junit(same)).values())


def test_characters_that_xml_has_not_are_replaced(run: RunSummary) -> None:
    cases = cases_of(run_junit(dataclasses.replace(run, label="a\x00b\x1b<&>")))
    assert {name[0] for name in cases} == {"a\ufffdb\ufffd<&>: validity", "a\ufffdb\ufffd<&>: SLO"}


def test_a_pull_request_sees_the_verdict_first(diff: DiffResult) -> None:
    text = diff_markdown(diff, ("peaktape", "diff", "a.parquet", "b.parquet"))
    first, _, rest = text.partition("\n")
    assert first == "### 🔴 Regression: build-b against build-a"
    assert rest.index(diff.reasons[0][:20]) < rest.index("| requests | metric |") < rest.index("<details>")
    assert len(text) < 20_000
    assert text.count("<details>") == text.count("</details>") >= 3
    assert text.endswith("<sub>`peaktape diff a.parquet b.parquet`</sub>\n")


def test_tables_are_square(run: RunSummary, stopped_run: RunSummary, diff: DiffResult) -> None:
    for text in (diff_markdown(diff), run_markdown(run), invalid_diff_markdown(run, stopped_run, WHY)):
        for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.M):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
            assert len(widths) == 1, block


def test_text_from_users_is_no_markdown(spoiled_diff: DiffResult) -> None:
    text = diff_markdown(spoiled_diff, (HOSTILE,))
    tags = set(re.findall(r"(?<!\\)<[^>]*>", re.sub("`.*`", "", text)))
    assert tags == {"<details>", "</details>", "<summary>", "</summary>", "<sub>", "</sub>"}
    assert escaped("a | b\n[x](https://y) @team `c` #1") == (
        "a \\| b \\[x\\](https:\u2060//y) @\u2060team \\`c\\` \\#1"
    )


def test_a_refused_comparison_says_why(run: RunSummary, stopped_run: RunSummary) -> None:
    text = invalid_diff_markdown(run, stopped_run, WHY)
    assert text.startswith("### 🔴 INVALID: build-b against build-a: build-b can't carry a verdict\n")
    assert "lateness p99: 41.2 ms found" in text
    assert WHY not in text


def test_valid_runs_without_a_verdict_are_told_why(run: RunSummary) -> None:
    text = invalid_diff_markdown(run, run, WHY)
    assert text.startswith("### 🔴 NO VERDICT: build-a against build-a: nothing to compare\n\n- " + WHY)
    assert invalid_diff_json(run, run, WHY)["reasons"] == [WHY]
    refused = cases_of(invalid_diff_junit(run, run, WHY))["build-a against build-a", "verdict"].find("error")
    assert refused is not None
    assert WHY in Xml.tostring(refused, "unicode")
