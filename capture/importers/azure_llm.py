"""The Azure LLM inference traces: a CSV of instants and token counts → a trace with synthetic prompts.

Source: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023 and 2024. Columns TIMESTAMP (UTC,
100 ns or µs), ContextTokens, GeneratedTokens; sorted by TIMESTAMP. No content, no session.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from capture.failures import BadInput
from capture.importers.csv_columns import read_columns, token_count
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, epoch_ns
from capture.importers.synthetic_prompt import RULE, SyntheticPrompts
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
    latest = -(2**63)
    for line, (stamp, *counts) in read_columns(source, COLUMNS, "an Azure LLM trace"):
        try:
            instant = epoch_ns(stamp)
        except ValueError:
            raise BadInput(
                f"{path}:{line}: column TIMESTAMP: {stamp[:40]!r} found, "
                "an instant such as 2023-11-16 18:15:46.6805900 wanted"
            ) from None
        if instant < latest:
            raise BadInput(
                f"{path}:{line}: column TIMESTAMP: {stamp} found, before the line above; "
                "ascending wanted: sort the lines by TIMESTAMP"
            )
        latest = instant
        tokens = zip(COLUMNS[1:], counts, strict=True)
        yield Lengths(instant, *(token_count(text, f"{path}:{line}: column {name}") for name, text in tokens))


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
