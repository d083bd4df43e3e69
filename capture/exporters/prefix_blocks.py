"""Which prompts share a beginning, in blocks of tokens, as Mooncake's traces tell it: one id per block.

There is no tokenizer here. A prompt is cut into words, and a block of 512 tokens is as many words as make
512 tokens on the whole trace's average. So block borders are near the model's own; that equal beginnings have
equal ids is exact. For synthetic prompts, where a word is a token, all is exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from capture.content_codings import decode_content
from capture.exporters.export_file import Row
from capture.importers.synthetic_prompt import BLOCK_TOKENS, blocks_of
from capture.semantics import header
from capture.sessions import messages_of
from capture.sse import parse_json
from capture.trace_reader import Trace


class BlockIds:
    """Gives prompts their blocks' ids: 0, 1, 2 … in order of first appearance. About 100 bytes a block."""

    def __init__(self, tokens_a_word: float = 1.0) -> None:
        self._words_a_block = BLOCK_TOKENS / tokens_a_word
        self._ids: dict[int, int] = {}

    def of(self, words: Sequence[str], tokens: int, otherwise: str) -> list[int]:
        """Ids of the blocks that hold `tokens` tokens; `otherwise` stands in for an unknown prompt."""
        count = blocks_of(tokens)
        chain = b""
        ids = []
        for block in range(count):
            start = round(block * self._words_a_block)
            end = None if block == count - 1 else round((block + 1) * self._words_a_block)
            text = " ".join(words[start:end]) if words else otherwise
            chain = hashlib.blake2b(chain + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            ids.append(self._ids.setdefault(int.from_bytes(chain[:8], "big"), len(self._ids)))
        return ids


def words_of(row: Row) -> list[str]:
    """The words of a request's prompt; none when its body is not there or is no prompt."""
    return prompt_of(row["request_body"], header(row["request_headers"], "content-encoding")).split()


def prompt_of(body: bytes | None, encoding: str | None) -> str:
    """The text of a request's prompt, system first, messages in order; "" where there is none."""
    decoded = decode_content(body, encoding) if body else None
    request = parse_json(decoded) if decoded else None
    return " ".join(_texts(request)) if isinstance(request, dict) else ""


def _texts(request: dict[str, Any]) -> Iterator[str]:
    system = request.get("system", request.get("instructions"))
    for holder in (system, *(messages_of(request) or (request.get("prompt"), request.get("input")))):
        yield from _strings(holder)


def _strings(holder: Any) -> Iterator[str]:
    if isinstance(holder, str):
        yield holder
    elif isinstance(holder, list):
        for item in holder:
            yield from _strings(item)
    elif isinstance(holder, dict):
        for name in ("content", "parts", "text"):
            yield from _strings(holder.get(name))


_SURVEYED_ROWS: Final = 2000


def tokens_a_word(trace: Trace) -> float:
    """Tokens per word over the trace's first prompts with a stated count; 1 where there is none."""
    tokens = words = rows = 0
    for batch in trace.iter_batches(["request_headers", "request_body", "input_tokens"]):
        for row in batch.to_pylist():
            row["request_headers"] = [(pair["name"], pair["value"]) for pair in row["request_headers"]]
            found = len(words_of(row)) if row["input_tokens"] else 0
            if found:
                tokens, words, rows = tokens + row["input_tokens"], words + found, rows + 1
        if rows >= _SURVEYED_ROWS:
            break
    return tokens / words if words else 1.0
