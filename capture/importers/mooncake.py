"""The Mooncake traces: JSON lines of instants, lengths and prefix-block ids → a trace with synthetic prompts.

Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces. Fields timestamp (ms from the trace's start,
ascending), input_length, output_length, hash_ids: one id per block of 512 prompt tokens, the last one maybe
partial; equal ids stand for an equal prefix. The conversation trace's clock ticks every 3 s, with some ten
requests on each tick; `unround` spreads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from capture.importers.captured_rows import Watch, unwatched
from capture.importers.clock import Rounded, chance_of, clock_tick_ns, decided, unrounded
from capture.importers.json_stream import object_in
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.importers.synthetic_prompt import BLOCK_TOKENS, MOST_TOKENS, RULE, SyntheticPrompts, blocks_of
from capture.importers.synthetic_request import UNSEEN, ChatRequests

STATED_TICK_NS: Final = 1_000_000
_LATEST_MS: Final = 10**12


@dataclasses.dataclass(frozen=True)
class PrefixedLengths:
    """One line of the trace. `arrival_ns` counts from the first line's instant."""

    arrival_ns: int
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...]

    def later(self, by_ns: int) -> PrefixedLengths:
        """The same request, `by_ns` later."""
        return dataclasses.replace(self, arrival_ns=self.arrival_ns + by_ns)


def open_mooncake(
    path: Path,
    prompts: SyntheticPrompts,
    requests: ChatRequests,
    *,
    rounded: Rounded = Rounded.KEEP,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the JSON lines at `path`; reads them once to check them and to find the clock's tick.

    The source has no wall clock, so the trace's zero is the epoch. Raises `BadInput` with line, field, found
    and wanted.
    """
    survey = read_lines(SourceFile(path), watch)
    tick_ns = clock_tick_ns((line.arrival_ns for line in survey), STATED_TICK_NS)
    clock = decided(tick_ns, rounded, path, finest_ns=STATED_TICK_NS)
    source = SourceFile(path)
    lines = read_lines(source)
    if clock.spread:
        lines = unrounded(
            lines,
            tick_ns,
            chance_of(prompts.seed),
            at=lambda line: line.arrival_ns,
            later=PrefixedLengths.later,
        )
    return PendingTrace(
        place=path,
        source="import:mooncake",
        wall_zero_ns=0,
        rows=_rows(lines, prompts, requests),
        fraction_read=source.fraction_read,
        clock_tick_ns=clock.tick_ns,
        notes=(RULE, UNSEEN, "the source has no wall clock; the zero is 1970-01-01", *clock.notes),
    )


def read_lines(source: SourceFile, watch: Watch = unwatched) -> Iterator[PrefixedLengths]:
    """The trace's lines one by one, checked; blank lines are passed over. Raises `BadInput`."""
    zero_ns = latest_ns = None
    with source, reading(source.path):
        for number, text in enumerate(source.text(), start=1):
            if number % 256 == 0:
                watch(source.fraction_read())
            if not text.strip():
                continue
            instant_ns, rest = _parsed(text, f"{source.path}:{number}")
            if latest_ns is not None and instant_ns < latest_ns:
                raise BadInput(
                    f"{source.path}:{number}: field timestamp: {instant_ns / 1e6:g} found after "
                    f"{latest_ns / 1e6:g}, ascending wanted; sort the lines by timestamp"
                )
            latest_ns = instant_ns
            zero_ns = instant_ns if zero_ns is None else zero_ns
            yield PrefixedLengths(instant_ns - zero_ns, *rest)


def _parsed(text: str, place: str) -> tuple[int, tuple[int, int, tuple[int, ...]]]:
    found = object_in(text, place, "is the file cut off?")
    timestamp: Any = found.get("timestamp")
    if not _is_instant(timestamp):
        raise BadInput(
            f"{place}: field timestamp: {_shown(found, 'timestamp')} found, milliseconds ≥ 0 wanted"
        )
    for name in ("input_length", "output_length"):
        if not _is_count(found.get(name), MOST_TOKENS):
            raise BadInput(
                f"{place}: field {name}: {_shown(found, name)} found, 0 to {MOST_TOKENS} tokens wanted"
            )
    ids = found.get("hash_ids")
    if not isinstance(ids, list) or not all(_is_count(i, 2**64 - 1) for i in ids):
        raise BadInput(
            f"{place}: field hash_ids: {_shown(found, 'hash_ids')} found, a list of ids ≥ 0 wanted"
        )
    if len(ids) != blocks_of(found["input_length"]):
        raise BadInput(
            f"{place}: field hash_ids: {len(ids)} ids found, {blocks_of(found['input_length'])} wanted for "
            f"{found['input_length']} tokens in blocks of {BLOCK_TOKENS}"
        )
    return round(timestamp * 1e6), (found["input_length"], found["output_length"], tuple(ids))


def _is_instant(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_MS


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _shown(found: dict[str, Any], name: str) -> str:
    return repr(found[name])[:40] if name in found else "nothing"


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
