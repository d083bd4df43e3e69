"""Which strings of an inference API's JSON are prompt or completion, and what stands for them.

The rule is an allow-list: a string is content unless it stands under one of `API_WORDS`
and looks like an identifier. So an unknown API's texts are content too. Numbers are content where they are
token ids, embeddings, or arguments of a tool call.
"""

from __future__ import annotations

import re
from typing import Final

from capture.importers.synthetic_prompt import WORDS
from capture.privacy.body_rules import BodyRules

_API_WORDS: Final = """
    model role type object id index finish_reason stop_reason native_finish_reason status
    incomplete_details system_fingerprint service_tier encoding_format tool_choice reasoning_effort
    effort verbosity format detail media_type mime_type mimetype voice call_id tool_call_id tool_use_id
    item_id response_id previous_response_id event_id session_id conversation_id conversation
    prompt_cache_key response_format truncation datatype model_name model_version done_reason created_at
    region strategy mode modality modalities include
"""
API_WORDS: Final = frozenset(_API_WORDS.split())
LISTED_WORDS: Final = frozenset({"modality", "modalities", "include"})
"""Of these members an API takes lists of words; a list in another one is a user's own."""
NAME_KEYS: Final = frozenset({"name", "required", "enum"})
SCHEMA_FIELDS: Final = frozenset(
    {"tools", "functions", "response_format", "text", "tool_config", "guided_json", "json_schema"}
)
NAMED_BY_USERS: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
ARGUMENT_KEYS: Final = frozenset({"arguments", "partial_json", "args"})
TOKEN_ID_KEYS: Final = frozenset({"prompt", "input", "prompt_token_ids", "input_ids", "token_ids", "tokens"})
EMBEDDING_KEYS: Final = frozenset({"embedding", "embeddings"})
ECHO_KEYS: Final = frozenset({"logprobs", "top_logprobs", "prompt_logprobs"})
CONVERSATIONS: Final = ("messages", "contents", "input", "prompt")
_IDENTIFIER: Final = re.compile(r"[\w.:/+-]{1,128}", re.ASCII)
_DATA_URL: Final = re.compile(r"(data:[\w/.+-]*;base64,)(.*)", re.DOTALL)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}")
HASHED: Final = re.compile(r"hmac:[0-9a-f]{16}")
_MARKER: Final = re.compile(r"\[REDACTED:[\w.-]+\]")
_BLANKS: Final = re.compile(r"[ _]")
_VOCABULARY: Final = frozenset((*WORDS, ""))
_KEPT_OF_REFS: Final = frozenset({"#", "$defs", "definitions", "properties"})


def is_content(field: str, key: str, text: str) -> bool:
    """Whether the string `text` under member `key`, below the body's member `field`, is content."""
    if not text:
        return False
    if key in API_WORDS:
        return _IDENTIFIER.fullmatch(text) is None
    return not (key == "name" and field in ("inputs", "outputs"))


def looks_like_identifier(text: str) -> bool:
    """Whether a text may stand where an API has ids and names: ASCII, no blanks, no longer than such are."""
    return _IDENTIFIER.fullmatch(text) is not None


def conforms(text: str, key: str, rules: BodyRules) -> bool:
    """Whether a text is what the policy would have made of one, as far as can be told without its key."""
    if HASHED.fullmatch(text) or _MARKER.fullmatch(text):
        return True  # also where texts are dropped: names of a tool's parameters must differ
    if rules.contents in ("drop", "hash"):
        return not text
    if key == "$ref" or _DATA_URL.fullmatch(text) or _BASE64.fullmatch(text):
        return True
    return text.startswith("https://pseudonym.invalid/") or set(_BLANKS.split(text)) <= _VOCABULARY


def payload_conforms(payload: bytes, rules: BodyRules) -> bool:
    """As `conforms` for bytes without structure: noise can't be told from data, and is taken for noise."""
    return rules.contents == "pseudonymise" or HASHED.fullmatch(payload.decode("latin-1")) is not None


def stands_for(text: str, key: str, rules: BodyRules) -> str | None:
    """What stands for a text that is no running text (names, addresses, pictures), or for any text that is
    dropped or hashed; None where pseudo-text from the chain is due."""
    if rules.contents == "drop":
        return ""
    if rules.contents == "hash":
        return rules.pseudonyms.digest(text)
    if key in NAME_KEYS:
        return rules.pseudonyms.name(text)
    if key == "$ref":
        steps = (step if step in _KEPT_OF_REFS else rules.pseudonyms.name(step) for step in text.split("/"))
        return "/".join(steps)
    data = _DATA_URL.fullmatch(text)
    if data:
        return data[1] + rules.pseudonyms.base64_noise(data[2])
    if _BASE64.fullmatch(text):
        return rules.pseudonyms.base64_noise(text)
    if text.startswith(("http://", "https://")) and " " not in text:
        return f"https://pseudonym.invalid/{rules.pseudonyms.digest(text)[5:]}"
    return None
