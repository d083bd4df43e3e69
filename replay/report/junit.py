"""A run's or a comparison's outcome as JUnit XML, for CI systems that show tests.

The elements are those that Jenkins' and GitLab's readers know: `testsuites`, `testsuite`, `testcase`,
`failure`, `error`, `skipped`, `system-out`. A check of validity that failed is an `error` (nothing was
measured), an objective that was missed or a regression a `failure`, what can't be decided `skipped`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree import ElementTree as Xml  # only written here, never parsed

from replay.analysis.values import DiffResult, Effect, OutcomeChange, RunSummary, Verdict
from replay.report.figures import format_change_ratio, format_pair_ns, format_ratio, relative
from replay.report.peak_wording import burn_text
from replay.report.telling import by_group, without_twins
from replay.report.wording import (
    diff_doubts,
    diff_headline,
    diff_reasons,
    effect_name,
    group_name,
    metric_name,
    objective_text,
    outcome_text,
    run_doubts,
    verdict_text,
)

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class Case:
    """One test case: `kind` is "" for one that passed, else failure, error or skipped, with why."""

    name: str
    kind: str = ""
    message: str = ""
    told: str = ""


def run_junit(summary: RunSummary) -> str:
    """One run as a JUnit document: a suite of its validity, and one of its objectives if it has any."""
    return _document("peaktape report", _run_suites(summary))


def diff_junit(diff: DiffResult) -> str:
    """A comparison as a JUnit document: both runs' validity, the candidate's SLO, the verdict, every group's
    metrics and failures."""
    name = f"{diff.candidate.label} against {diff.baseline.label}"
    cases = [_verdict_case(diff)]
    for group, members in by_group(without_twins(diff.effects)):
        for metric in dict.fromkeys(effect.metric for effect in members):
            chosen = [effect for effect in members if effect.metric == metric]
            cases.append(_metric_case(f"{group_name(group)}: {metric_name(metric)}", chosen))
    cases += [_outcome_case(change) for change in diff.outcome_changes]
    baseline = dataclasses.replace(diff.baseline, objectives=())  # not what is to be judged
    suites = [*_run_suites(baseline), *_run_suites(diff.candidate), (name, cases)]
    return _document("peaktape diff", suites)


def invalid_diff_junit(baseline: RunSummary, candidate: RunSummary, why: str) -> str:
    """A comparison that was refused: both runs' checks, and a verdict that is an error, by `why` if valid."""
    refused = [run.label for run in (baseline, candidate) if not run.validity.valid]
    if refused:
        why = f"no verdict, since {' and '.join(refused)} can't carry one"
    verdict = (f"{candidate.label} against {baseline.label}", [Case("verdict", "error", why)])
    return _document("peaktape diff", [*_run_suites(baseline), *_run_suites(candidate), verdict])


def _run_suites(run: RunSummary) -> list[tuple[str, list[Case]]]:
    checks = [
        Case(
            check.name,
            "" if check.passed else "error",
            f"{check.found} found, {check.wanted} wanted",
            "" if check.passed else check.why,
        )
        for check in run.validity.checks
    ]
    if checks and (doubts := run_doubts(run)):
        checks[-1] = dataclasses.replace(checks[-1], told="\n".join([checks[-1].told, *doubts]).strip())
    suites = [(f"{run.label}: validity", checks)]
    if run.objectives:
        suites.append((f"{run.label}: SLO", _objective_cases(run)))
    return suites


def _objective_cases(run: RunSummary) -> list[Case]:
    cases = []
    for result in run.objectives:
        wanted, found = objective_text(result)
        told = f"{found} found, attained by {format_ratio(result.attainment)}, burn {burn_text(result.burn)}"
        kind = "" if result.met else "failure"
        if not run.validity.valid:
            kind, told = "skipped", "the run is INVALID"
        cases.append(Case(wanted, kind, told))
    return cases


def _verdict_case(diff: DiffResult) -> Case:
    headline = diff_headline(diff)
    kinds = {Verdict.REGRESSION: "failure", Verdict.INCONCLUSIVE: "skipped"}
    valid = diff.baseline.validity.valid and diff.candidate.validity.valid
    kind = kinds.get(diff.verdict, "") if valid else "error"
    return Case(
        "verdict",
        kind,
        f"{headline.word}: {headline.subject}",
        "\n".join((*diff_reasons(diff), *diff_doubts(diff))),
    )


def _metric_case(name: str, effects: Sequence[Effect]) -> Case:
    told = "\n".join(_effect_line(effect) for effect in effects)
    slower = [effect for effect in effects if effect.verdict is Verdict.REGRESSION]
    if slower:
        return Case(name, "failure", "; ".join(_effect_line(effect) for effect in slower), told)
    if all(effect.verdict is Verdict.INCONCLUSIVE for effect in effects):
        return Case(name, "skipped", "undecided", told)
    return Case(name, told=told)


def _effect_line(effect: Effect) -> str:
    change = format_change_ratio(relative(effect.effect_ns, effect.baseline_ns))
    pair = format_pair_ns(effect.baseline_ns, effect.candidate_ns)
    return f"{effect_name(effect)}: {pair}, {change}, {verdict_text(effect)}"


def _outcome_case(change: OutcomeChange) -> Case:
    told = f"{change.baseline_count} → {change.candidate_count} of {change.pairs}, {outcome_text(change)}"
    kinds = {Verdict.REGRESSION: "failure", Verdict.INCONCLUSIVE: "skipped"}
    return Case(f"{group_name(change.group)}: {change.kind}", kinds.get(change.verdict, ""), told)


def _document(name: str, suites: Iterable[tuple[str, list[Case]]]) -> str:
    suites = list(suites)
    every = [case for _, cases in suites for case in cases]
    root = Xml.Element("testsuites", {"name": name, **_counts(every)})
    for title, cases in suites:
        suite = Xml.SubElement(root, "testsuite", {"name": _clean(title), **_counts(cases)})
        for case in cases:
            attributes = {"name": _clean(case.name), "classname": _clean(title), "time": "0"}
            element = Xml.SubElement(suite, "testcase", attributes)
            if case.kind:
                marked = Xml.SubElement(element, case.kind, {"message": _clean(case.message)})
                marked.text = _clean(case.told) or None
            elif case.message or case.told:
                told = "\n".join(filter(None, (case.message, case.told)))
                Xml.SubElement(element, "system-out").text = _clean(told)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    of_kind = {kind: sum(case.kind == kind for case in cases) for kind in ("failure", "error", "skipped")}
    names = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    return {"tests": str(len(cases)), **{names[kind]: str(count) for kind, count in of_kind.items()}}


def _clean(text: str) -> str:
    """Text without the characters that XML 1.0 has no way to write."""
    return _NOT_XML.sub("\ufffd", text)
