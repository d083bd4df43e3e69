"""Requests of two endpoints, models and tenants, some in sessions, to choose from."""

from __future__ import annotations

import json
from typing import Any

from tests.trace_rows import trace_row

S = 1_000_000_000


def row(number: int) -> dict[str, Any]:
    """Every tenth of a second a request: one in four of a chat session of four turns, the rest alone."""
    chats = number % 4 == 0
    body = json.dumps({"input": "word " * (1 + number % 50)}).encode()
    tenant = [("X-Tenant", "acme" if number % 3 == 0 else "other")] if number % 5 else []
    return trace_row(
        number,
        number * S // 10,
        session_id=f"s{number // 16}" if chats else None,
        turn=(number // 4) % 4 if chats else 0,
        path="/v1/chat/completions?x=1" if chats else "/v1/embeddings",
        request_headers=[("Content-Type", "application/json"), *tenant],
        request_body=body,
        request_bytes=len(body) if number % 2 else None,
        end_ns=number * S // 10 + 1,
        model="large" if chats else "small",
        # The last turn of every second session is long; alone ones state nothing.
        input_tokens=(5000 if number % 32 == 12 else 100) if chats else None,
    )
