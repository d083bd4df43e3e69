"""The messages of one direction of a connection (gRPC, WebSocket): each changed as a whole, its frame kept.

A body is then its messages one after the other. Texts that are JSON are judged like the events of a stream,
so that a secret which two messages share is found; all else is opaque bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from capture.privacy.bodies import opaque
from capture.privacy.body_rules import BodyRules, Tally
from capture.privacy.documents import Judge, Part
from capture.privacy.edits import Edit, spliced

_GRPC_HEAD_BYTES: Final = 5


def redacted_messages(
    messages: Sequence[bytes],
    rules: BodyRules,
    tally: Tally,
    *,
    grpc: bool = False,
    start: bytes | None = None,
) -> list[bytes] | None:
    """The messages under `rules`, as many as before; None when they are dropped.

    With `grpc` each begins with its five bytes of frame (compressed or not, length), which are made to fit.
    """
    if grpc:
        payloads = _opaque([message[_GRPC_HEAD_BYTES:] for message in messages], rules, tally)
        if payloads is None:
            return None
        return [
            message[:1] + len(payload).to_bytes(4, "big") + payload
            for message, payload in zip(messages, payloads, strict=True)
        ]
    try:
        texts = [message.decode("utf-8") for message in messages]
    except UnicodeDecodeError:
        return _opaque(messages, rules, tally)
    if not all(text.lstrip()[:1] in ("{", "[", "") for text in texts):
        return _opaque(messages, rules, tally)
    borders = [0, *itertools.accumulate(map(len, texts))]
    spans = list(itertools.pairwise(borders))
    edits = Judge(rules, tally, start).edits("".join(texts), [Part(a, b) for a, b in spans if a < b])
    return [
        spliced(text, [Edit(e.start - a, e.end - a, e.new) for e in edits if a <= e.start < b]).encode(
            "utf-8"
        )
        for text, (a, b) in zip(texts, spans, strict=True)
    ]


def _opaque(messages: Sequence[bytes], rules: BodyRules, tally: Tally) -> list[bytes] | None:
    changed = [opaque(message, rules, tally) for message in messages]
    kept = [message for message in changed if message is not None]
    return kept if len(kept) == len(changed) else None
