"""The one place where it is decided what of a request reaches a disk: policy first, then the journal.

The recorder's process calls `request_as_kept` when a request has come in and `row_as_kept` when it is over,
each before a byte of it is written anywhere but to the spool in memory. Functions of values.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from capture.capture_facts import RecorderOptions
from capture.redaction import redact_answer, redact_request, redact_session

_JUDGED: Final = ("request_body", "request_headers", "request_trailers", "path", "message_bytes")
"""Where one of these is told by the request's end only, the whole request is gone through again."""


@dataclasses.dataclass(frozen=True)
class KeptRequest:
    """A request's columns as they may be written, and what its answer's redaction has to know of it."""

    columns: dict[str, Any]
    after_prompt: bytes | None
    left_out: Counter[str]


def request_as_kept(columns: Mapping[str, Any], options: RecorderOptions) -> KeptRequest:
    """The request's columns as they may be written."""
    kept, left_out = dict(columns), Counter[str]()
    after_prompt = redact_request(kept, options.redaction, left_out)
    return KeptRequest(kept, after_prompt, left_out)


def row_as_kept(
    row: Mapping[str, Any], told_last: Mapping[str, Any], before: KeptRequest, options: RecorderOptions
) -> tuple[dict[str, Any], Counter[str]]:
    """A whole row as it may be written, and what was left out of it by kind.

    `told_last` are the columns that came with the request's end, `before` is what its beginning gave.
    """
    kept = dict(row)
    if any(name in told_last for name in _JUDGED):
        left_out = Counter[str]()
        after_prompt = redact_request(kept, options.redaction, left_out)
    else:
        redact_session(kept, options.redaction)
        session = {name: kept[name] for name in ("session_id", "turn")}
        kept |= before.columns | session
        left_out, after_prompt = Counter(before.left_out), before.after_prompt
    redact_answer(kept, options.redaction, left_out, after_prompt)
    if not options.response_bodies:
        kept["response_body"] = None
    return kept, left_out
