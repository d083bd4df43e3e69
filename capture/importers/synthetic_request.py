"""A trace row for a request of which a source knows only the instant and the lengths.

The row says what such a source says and nothing more: outcome `complete`, since these sources list requests
that were served, and null for everything the server answered (status, headers, body, first byte, end).
`input_tokens` and `output_tokens` are the source's own figures.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from capture.trace_format import COMPLETE

HOST: Final = "import.invalid:80"
"""Stands where a captured request has its server; `.invalid` never resolves (RFC 6761, 6.4)."""
PATH: Final = "/v1/chat/completions"
UNSEEN: Final = "answers were never seen: the source holds instants and lengths only"


@dataclasses.dataclass(frozen=True)
class ChatRequests:
    """How a length-only request is put to an OpenAI-compatible server, or, by `path`, Anthropic's messages.

    With `ignore_eos` the body also asks for exactly the recorded number of tokens by `ignore_eos` and
    `min_tokens`, which vLLM and SGLang understand and OpenAI's API rejects; else `max_tokens` is an upper
    bound. An answer of 0 tokens is asked for as 1, since servers refuse 0. Embeddings have no answer tokens.
    """

    model: str = "default"
    stream: bool = True
    ignore_eos: bool = False
    path: str = PATH

    def body(self, prompt: str, output_tokens: int) -> bytes:
        """The JSON body of a completion, a chat's or a plain one's, or of an embedding; UTF-8."""
        if self.path.endswith("/embeddings"):
            return _json({"model": self.model, "input": prompt})
        wanted_tokens = max(1, output_tokens)
        fields: dict[str, Any] = {"model": self.model, **self._prompt(prompt), "max_tokens": wanted_tokens}
        if self.stream:
            fields |= {"stream": True}
            if not self.path.endswith("/messages"):
                fields |= {"stream_options": {"include_usage": True}}
        if self.ignore_eos:
            fields |= {"ignore_eos": True, "min_tokens": wanted_tokens}
        return _json(fields)

    def _prompt(self, prompt: str) -> dict[str, Any]:
        if self.path.endswith("/completions") and not self.path.endswith("/chat/completions"):
            return {"prompt": prompt}
        return {"messages": [{"role": "user", "content": prompt}]}

    def row(
        self,
        request_id: str,
        arrival_ns: int,
        prompt: str,
        *,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> dict[str, Any]:
        """The trace row; columns that are not in it are null."""
        return {
            "request_id": request_id,
            "turn": 0,
            "arrival_ns": arrival_ns,
            "method": "POST",
            "scheme": "http",
            "host": HOST,
            "path": self.path,
            "http_version": "HTTP/1.1",
            "request_headers": [("Content-Type", "application/json")],
            "request_body": self.body(prompt, output_tokens or 0),
            "outcome": COMPLETE,
            "response_bytes": 0,
            "chunk_ns": [],
            "chunk_bytes": [],
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "model": self.model,
            "stream": self.stream,
        }


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
