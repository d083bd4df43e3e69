"""The Mooncake traces: JSON lines of instants, lengths and prefix-block ids → a trace with synthetic prompts.

Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces. Fields timestamp (ms from the trace's start,
ascending), input_length, output_length, hash_ids: one id per block of 512 prompt tokens, the last one maybe
partial; equal ids stand for an equal prefix. The conversation trace's clock ticks every 3 s, with some ten
requests on each tick; `unround` spreads them.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from capture.failures import BadInput
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.importers.synthetic_prompt import BLOCK_TOKENS, MOST_TOKENS, RULE, SyntheticPrompts, blocks_of
from capture.importers.synthetic_request import UNSEEN, ChatRequests

STATED_TICK_NS: Final = 1_000_000
_LEAST_ROUNDING_NS: Final = 10 * STATED_TICK_NS
_LATEST_MS: Final = 10**12
_UNROUND_STREAM: Final = 3


@dataclasses.dataclass(frozen=True)
class PrefixedLengths:
    """One line of the trace. `arrival_ns` counts from the first line's instant."""

    arrival_ns: int
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...]


def open_mooncake(
    path: Path, prompts: SyntheticPrompts, requests: ChatRequests, *, unround: bool = False
) -> PendingTrace:
    """Begin to import the JSON lines at `path`; reads them once to check them and to find the clock's tick.

    The source has no wall clock, so the trace's zero is the epoch. Raises `BadInput` with line, field, found
    and wanted.
    """
    tick_ns = clock_tick_ns(line.arrival_ns for line in read_lines(SourceFile(path)))
    rounded = tick_ns > STATED_TICK_NS
    source = SourceFile(path)
    lines = read_lines(source)
    notes = [RULE, UNSEEN, "the source has no wall clock; the zero is 1970-01-01"]
    if rounded and unround:
        lines = unrounded(lines, tick_ns, np.random.default_rng([prompts.seed, _UNROUND_STREAM]))
        notes.append(
            f"arrivals were un-rounded: uniform within the source clock's tick of {tick_ns / 1e9:g} s"
        )
    elif rounded:
        notes.append(
            f"the source's clock ticks every {tick_ns / 1e9:g} s, with many requests on the same instant; "
            "add --unround to spread them before you replay or measure bursts"
        )
    elif unround:
        notes.append("--unround changed nothing: the source's clock isn't rounded")
    return PendingTrace(
        place=path,
        source="import:mooncake",
        wall_zero_ns=0,
        rows=_rows(lines, prompts, requests),
        fraction_read=source.fraction_read,
        clock_tick_ns=STATED_TICK_NS if unround else tick_ns,
        notes=tuple(notes),
    )


def read_lines(source: SourceFile) -> Iterator[PrefixedLengths]:
    """The trace's lines one by one, checked; blank lines are passed over. Raises `BadInput`."""
    zero_ns = latest_ns = None
    with source, reading(source.path):
        for number, text in enumerate(source.text(), start=1):
            if not text.strip():
                continue
            instant_ns, rest = _parsed(text, f"{source.path}: line {number}")
            if latest_ns is not None and instant_ns < latest_ns:
                raise BadInput(
                    f"{source.path}: line {number}, field timestamp: {instant_ns / 1e6:g} found after "
                    f"{latest_ns / 1e6:g}, ascending wanted; sort the lines by timestamp"
                )
            latest_ns = instant_ns
            zero_ns = instant_ns if zero_ns is None else zero_ns
            yield PrefixedLengths(instant_ns - zero_ns, *rest)


def _parsed(text: str, place: str) -> tuple[int, tuple[int, int, tuple[int, ...]]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInput(
            f"{place}: {text[:40].strip()!r} found, a whole JSON object wanted; is the file cut off?"
        )
    timestamp: Any = found.get("timestamp")
    if not _is_instant(timestamp):
        raise BadInput(
            f"{place}, field timestamp: {_shown(found, 'timestamp')} found, milliseconds ≥ 0 wanted"
        )
    for name in ("input_length", "output_length"):
        if not _is_count(found.get(name), MOST_TOKENS):
            raise BadInput(
                f"{place}, field {name}: {_shown(found, name)} found, 0 to {MOST_TOKENS} tokens wanted"
            )
    ids = found.get("hash_ids")
    if not isinstance(ids, list) or not all(_is_count(i, 2**64 - 1) for i in ids):
        raise BadInput(
            f"{place}, field hash_ids: {_shown(found, 'hash_ids')} found, a list of ids ≥ 0 wanted"
        )
    if len(ids) != blocks_of(found["input_length"]):
        raise BadInput(
            f"{place}, field hash_ids: {len(ids)} ids found, {blocks_of(found['input_length'])} wanted for "
            f"{found['input_length']} tokens in blocks of {BLOCK_TOKENS}"
        )
    return round(timestamp * 1e6), (found["input_length"], found["output_length"], tuple(ids))


def _is_instant(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_MS


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _shown(found: dict[str, Any], name: str) -> str:
    return repr(found[name])[:40] if name in found else "nothing"


def clock_tick_ns(arrivals_ns: Iterable[int]) -> int:
    """The step of the clock that stamped ascending arrivals: the commonest gap between distinct instants.

    `STATED_TICK_NS` unless the clock is plainly rounded: at least two requests per distinct instant on
    average, and no gap below 10 ms.
    """
    rows, before = 0, None
    gaps: Counter[int] = Counter()
    for arrival in arrivals_ns:
        rows += 1
        if before is not None and arrival != before:
            gaps[arrival - before] += 1
        before = arrival
    if not gaps or min(gaps) < _LEAST_ROUNDING_NS or rows < 2 * (1 + gaps.total()):
        return STATED_TICK_NS
    return gaps.most_common(1)[0][0]


def unrounded(
    lines: Iterable[PrefixedLengths], tick_ns: int, chance: np.random.Generator
) -> Iterator[PrefixedLengths]:
    """Lines spread uniformly over the tick that follows their instant, up to the next instant at most.

    Their order stays; so do the counts per tick. Holds one tick's lines at a time.
    """
    held: list[PrefixedLengths] = []
    for line in lines:
        if held and line.arrival_ns != held[0].arrival_ns:
            yield from _spread(held, min(tick_ns, line.arrival_ns - held[0].arrival_ns), chance)
            held = []
        held.append(line)
    yield from _spread(held, tick_ns, chance)


def _spread(
    held: list[PrefixedLengths], width_ns: int, chance: np.random.Generator
) -> Iterator[PrefixedLengths]:
    offsets = np.sort(chance.integers(0, width_ns, len(held)))
    for line, offset in zip(held, offsets.tolist(), strict=True):
        yield dataclasses.replace(line, arrival_ns=line.arrival_ns + offset)


def _rows(
    lines: Iterator[PrefixedLengths], prompts: SyntheticPrompts, requests: ChatRequests
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        yield requests.row(
            f"mooncake-{number}",
            line.arrival_ns,
            prompts.of_blocks(line.hash_ids, line.input_tokens),
            input_tokens=line.input_tokens,
            output_tokens=line.output_tokens,
        )
