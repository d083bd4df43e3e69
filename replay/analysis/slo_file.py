"""An SLO as YAML: targets per endpoint, model and phase; what is wrong is refused with its line.

`samples/slo.yml` shows and explains every key. How objectives are held against a run is in `slo`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from capture.yaml_file import YamlReader, listed, told
from replay.analysis.slo import RATES, RECOVERY, latency_objective, share_or_time
from replay.analysis.values import METRICS, Objective

_SELECTORS: Final = ("endpoint", "model", "phase")
_KEYS: Final = (*_SELECTORS, "optional", *METRICS, *RATES, RECOVERY)


def objectives_of(document: Any, place: str) -> tuple[Objective, ...]:
    """The objectives of a loaded document, in its order; raises `BadInput` with `file:line`."""
    return _Reader(place).objectives(document)


class _Reader(YamlReader):
    """Turns the loaded document into objectives."""

    def objectives(self, document: Any) -> tuple[Objective, ...]:
        top = self.mapping(document, "the SLO", ("targets",))
        lines: dict[Objective, int] = {}
        found: list[Objective] = []
        for target, line in self.items(top, "targets"):
            for objective, at in self._target(target, line):
                term = dataclasses.replace(objective, limit=0.0, optional=False)
                if term in lines:
                    raise self.refused(at, f"states again what line {lines[term]} states; state each once")
                lines[term] = at
                found.append(objective)
        if not found:
            raise self.refused(1, f"no target found, at least one with {listed(_KEYS[4:])} wanted")
        return tuple(found)

    def _target(self, found: Any, line: int) -> Iterator[tuple[Objective, int]]:
        target = self.mapping(found, "a target", _KEYS, line)
        patterns: dict[str, Any] = {name: self.text(target, name, "*") for name in _SELECTORS}
        optional = target.get("optional", False)
        if not isinstance(optional, bool):
            raise self.refused(
                self.line(target, "optional"), f"optional: {told(optional)} found, true or false wanted"
            )
        terms = [*self._limits(target)]
        if not terms:
            raise self.refused(line, f"a target without a limit found, one of {listed(_KEYS[4:])} wanted")
        for objective, at in terms:
            if objective.metric == RECOVERY and (patterns["endpoint"], patterns["model"]) != ("*", "*"):
                raise self.refused(at, "recovery: is of the whole service; a target by phase alone wanted")
            yield dataclasses.replace(objective, optional=optional, **patterns), at

    def _limits(self, target: Mapping[str, Any]) -> Iterator[tuple[Objective, int]]:
        for metric in (*RATES, RECOVERY):
            if metric in target:
                line = self.line(target, metric)
                try:
                    yield share_or_time(metric, _value(target[metric])), line
                except ValueError as error:
                    raise self.refused(line, f"{metric}: {error}") from error
        for metric in METRICS:
            if metric in target:
                yield from self._quantiles(target, metric)

    def _quantiles(self, target: Mapping[str, Any], metric: str) -> Iterator[tuple[Objective, int]]:
        limits, wanted = target[metric], "a mapping such as {p50: 300ms, p99: 800ms} wanted"
        if not isinstance(limits, Mapping) or not limits:
            raise self.refused(self.line(target, metric), f"{metric}: {told(limits)} found, {wanted}")
        for name, limit in limits.items():
            line = self.line(limits, name)
            if not str(name).startswith("p"):
                raise self.refused(line, f"{metric}: {told(name)} found, {wanted}")
            try:
                yield latency_objective(metric, str(name)[1:], _value(limit)), line
            except ValueError as error:
                raise self.refused(line, f"{metric}: {error}") from error


def _value(found: Any) -> str:
    """A limit as it was written; raises `ValueError` for what is none."""
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise ValueError(f"a limit such as 500ms or 1% wanted instead of {told(found)}")
    return str(found).strip()
