"""Content rules followed: a trace row with the prompt, lengths, model and path that a replay asks for.

Runs in the feeder's process, before a request is serialised; a chat of 2 KB takes some 0.1 ms. What the rules
are is in `transform.content_rules`; a body that is no JSON object, or holds no text, keeps what it says.
All is pure.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote, unquote

from capture.importers.synthetic_prompt import WORDS, SyntheticPrompts
from capture.semantics import json_body
from replay.engine.prompt_texts import USER_ROLES, Text, prompts_in, scaled, words_in
from replay.transform.content_rules import CLONES, HITS, KEEP, UNIQUE, ContentRules

NONCE_WORDS: Final = 6
"""Words that make a prompt unique: 48 bits, one token each (see `synthetic_prompt`)."""

_LIMITS: Final = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "min_tokens"),
    *("num_predict", "n_predict", "maxOutputTokens"),
)
_LIMIT_HOLDERS: Final = ("options", "parameters", "generationConfig", "generation_config")
_MODEL_IN_PATH: Final = re.compile(r"(/(?:models|deployments|engines)/)([^/?:]+)")
_TOKENS_A_WORD: Final = (0.5, 4.0)
"""Between these a request's stated tokens per word is believed."""
_JSON: Final = json.JSONEncoder(ensure_ascii=False)


def rewritten(row: Mapping[str, Any], place: Mapping[str, int], rules: ContentRules) -> Mapping[str, Any]:
    """The trace row as `rules` want it, for the copy at `place` (a schedule row's values).

    Headers lose their content coding when the body is changed: it then goes out plain.
    """
    if rules.clones_only and not place["copy"]:
        return row
    changed = {**row, "path": path_for(row["path"], rules), "model": rules.model_for(row["model"])}
    request = json_body(row["request_body"], row["request_headers"]) if rules.changes_bodies else None
    if isinstance(request, dict) and rewrite_request(request, row, place, rules):
        body = _JSON.encode(request).encode("utf-8", "surrogatepass")
        plain = tuple(pair for pair in row["request_headers"] if pair[0].lower() != "content-encoding")
        changed |= {"request_body": body, "request_headers": plain}
    return changed


def path_for(path: str, rules: ContentRules) -> str:
    """The path that is asked for instead of `path`: another endpoint, another model named in it."""
    path = rules.path_for(path)
    if not rules.models:
        return path
    return _MODEL_IN_PATH.sub(lambda found: found[1] + _renamed(found[2], rules), path)


def rewrite_request(
    request: dict[str, Any], row: Mapping[str, Any], place: Mapping[str, int], rules: ContentRules
) -> bool:
    """`request`, a body's JSON, changed in place; whether it was."""
    changed = rules.answer_length != 1 and _limits(request, rules.answer_length)
    named = request.get("model")
    if isinstance(named, str) and rules.model_for(named) != named:
        request["model"] = rules.model_for(named)
        changed = True
    prompts = prompts_in(request) if rules.prompts != KEEP or rules.prompt_length != 1 else []
    before = [text.value for prompt in prompts for text in prompt]
    for prompt in prompts if rules.prompt_length != 1 else ():
        for text in prompt:
            text.put(scaled(text.value, rules.prompt_length))
    ratio = _tokens_a_word(row, prompts, rules) if rules.prompts == HITS else 1.0
    for number, prompt in enumerate(prompts):
        own = nonce(rules.seed, row["request_id"], place["copy"], number)
        if rules.prompts == UNIQUE or (rules.prompts == HITS and rules.hits == 0):
            _lead(prompt[0], own)
        elif rules.prompts == HITS:
            _begin_alike(prompt, rules.hits, ratio, own)
        elif rules.prompts == CLONES and place["copy"]:
            # What the system says stays shared, and the turns of one conversation begin alike.
            first = next((text for text in prompt if text.role in USER_ROLES), prompt[0])
            _lead(first, nonce(rules.seed, "session", place["session"], number))
    return changed or before != [text.value for prompt in prompts for text in prompt]


def _begin_alike(prompt: list[Text], hits: float, tokens_a_word: float, own: str) -> None:
    """The share `hits` of its tokens from a common text, then words of its own, then the rest, cut to fit."""
    words = sum(words_in(text.value) for text in prompt)
    for text in prompt:
        text.put(scaled(text.value, 1 - hits))
    _lead(prompt[0], own if hits < 1 else "")
    _lead(prompt[0], common_text(round(hits * words * tokens_a_word)))


def _lead(text: Text, words: str) -> None:
    text.put(f"{words} {text.value}" if words else text.value)


def nonce(*identity: str | int) -> str:
    """`NONCE_WORDS` words that depend on `identity` alone."""
    digest = blake2b("\0".join(map(str, identity)).encode(), digest_size=NONCE_WORDS).digest()
    return " ".join(WORDS[byte] for byte in digest)


def common_text(tokens: int) -> str:
    """The first `tokens` tokens (words of `synthetic_prompt`) of a text that never ends, always the same."""
    whole = _common_text(1 << max(10, tokens.bit_length()))
    return whole[: max(0, 5 * tokens - 1)]  # four letters and a space each


@functools.lru_cache(4)
def _common_text(tokens: int) -> str:
    return SyntheticPrompts(0).of_row(0, tokens)


def _tokens_a_word(row: Mapping[str, Any], prompts: list[list[Text]], rules: ContentRules) -> float:
    """By what the answer stated of this request; 1 where it stated nothing that can be believed."""
    stated, words = (
        row.get("input_tokens"),
        sum(words_in(text.value) for prompt in prompts for text in prompt),
    )
    if not stated or not words:
        return 1.0
    lowest, highest = _TOKENS_A_WORD
    found = float(stated) * rules.prompt_length / words
    return found if lowest <= found <= highest else 1.0


def _limits(request: dict[str, Any], factor: float) -> bool:
    """Stated bounds of the answer's length, multiplied; whether there was one."""
    found = False
    for holder in (request, *(request.get(name) for name in _LIMIT_HOLDERS)):
        if not isinstance(holder, dict):
            continue
        for name in _LIMITS:
            if type(holder.get(name)) is int and holder[name] > 0:
                holder[name] = max(1, round(holder[name] * factor))
                found = True
    return found


def _renamed(name: str, rules: ContentRules) -> str:
    plain = unquote(name)
    new = rules.model_for(plain)
    return name if new is None or new == plain else quote(new, safe="")
