"""The Azure LLM inference traces: a CSV of instants and token counts → a trace with synthetic prompts.

Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023 and 2024. Columns TIMESTAMP (UTC,
100 ns or µs), ContextTokens, GeneratedTokens; sorted by TIMESTAMP. No content, no session.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from capture.failures import BadInput
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, epoch_ns, reading
from capture.importers.synthetic_prompt import MOST_TOKENS, RULE, SyntheticPrompts
from capture.importers.synthetic_request import UNSEEN, ChatRequests

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
CLOCK_TICK_NS: Final = 100


class Lengths(NamedTuple):
    """One line of the CSV: the wall clock of the arrival and the token counts."""

    epoch_ns: int
    input_tokens: int
    output_tokens: int


def open_azure_llm(path: Path, prompts: SyntheticPrompts, requests: ChatRequests) -> PendingTrace:
    """Begin to import the CSV at `path`; the trace's zero is the first arrival.

    Raises `BadInput` with line, column, found and wanted; for later lines when their rows are drawn.
    """
    source = SourceFile(path)
    lines = read_lengths(source)
    first = next(lines, None)
    if first is None:
        raise BadInput(f"{path}: a header without rows; one line per request wanted")
    return PendingTrace(
        place=path,
        source="import:azure-llm",
        wall_zero_ns=first.epoch_ns,
        rows=_rows(itertools.chain([first], lines), prompts, requests, first.epoch_ns),
        fraction_read=source.fraction_read,
        clock_tick_ns=CLOCK_TICK_NS,
        notes=(RULE, UNSEEN),
    )


def read_lengths(source: SourceFile) -> Iterator[Lengths]:
    """The CSV's lines one by one, checked; blank lines are passed over. Raises `BadInput`."""
    path = source.path
    with source, reading(path):
        lines = csv.reader(source.text())
        header = [name.strip() for name in next(lines, [])]
        for name in COLUMNS:
            if name not in header:
                raise BadInput(
                    f"{path}:1: column {name} missing, header {','.join(COLUMNS)} wanted; "
                    "is this an Azure LLM trace?"
                )
        places = [header.index(name) for name in COLUMNS]
        latest = -(2**63)
        for cells in lines:
            if not cells:
                continue
            lengths = _checked(path, lines.line_num, cells, places)
            if lengths.epoch_ns < latest:
                raise BadInput(
                    f"{path}:{lines.line_num}: column TIMESTAMP: {cells[places[0]]} found, before the "
                    "line above; ascending wanted: sort the lines by TIMESTAMP"
                )
            latest = lengths.epoch_ns
            yield lengths


def _checked(path: Path, line: int, cells: list[str], places: list[int]) -> Lengths:
    found = [cells[place] if place < len(cells) else "nothing" for place in places]
    try:
        instant = epoch_ns(found[0])
    except ValueError:
        raise BadInput(
            f"{path}:{line}: column TIMESTAMP: {found[0]!r} found, "
            "an instant such as 2023-11-16 18:15:46.6805900 wanted"
        ) from None
    counts = []
    for name, text in zip(COLUMNS[1:], found[1:], strict=True):
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MOST_TOKENS):
            raise BadInput(
                f"{path}:{line}: column {name}: {text[:40]!r} found, 0 to {MOST_TOKENS} tokens wanted"
            )
        counts.append(int(text))
    return Lengths(instant, *counts)


def _rows(
    lines: Iterator[Lengths], prompts: SyntheticPrompts, requests: ChatRequests, zero_ns: int
) -> Iterator[dict[str, Any]]:
    for number, lengths in enumerate(lines, start=1):
        yield requests.row(
            f"azure-llm-{number}",
            lengths.epoch_ns - zero_ns,
            prompts.of_row(number, lengths.input_tokens),
            input_tokens=lengths.input_tokens,
            output_tokens=lengths.output_tokens,
        )
