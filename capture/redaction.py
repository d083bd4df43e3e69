"""What is never written to a trace: the policy, and the one door through which every row passes.

A header's or parameter's name stays, so that a replay knows what to put back; the value becomes `REDACTED`.
When in doubt it is redacted: a lost header can be given again, a leaked key can't be taken back. How bodies
are searched and changed is in `capture.privacy`; a policy is read from YAML by `capture.privacy.policy_file`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, unquote_plus

from capture.privacy.bodies import opaque, redacted_body
from capture.privacy.body_rules import BodyRules, ContentPolicy, Tally
from capture.privacy.contents import looks_like_identifier
from capture.privacy.credential_names import (
    CREDENTIAL_NAME_PATTERN,
    CREDENTIAL_NAMES,
    CREDENTIAL_VALUE_PATTERN,
    HARMLESS_NAMES,
    KEPT_HEADER_PATTERN,
    KEPT_HEADERS,
    REDACTED,
    URL_HEADERS,
    header_is_kept,
    name_is_credential,
    value_is_credential,
)
from capture.privacy.json_paths import PathRule
from capture.privacy.messages import redacted_messages
from capture.privacy.pseudonyms import BLOCK_TOKENS, Pseudonyms, pieces_of
from capture.privacy.secret_patterns import DEFAULT_KINDS, OwnPattern, SecretFinder
from capture.privacy.tokenizers import TokenizerCut
from capture.privacy.vendor_keys import VENDOR_PATTERNS
from capture.sessions import BODY_SESSION_FIELDS, OWN_SESSION, session_in_headers

CONTENT_HEADERS: Final = frozenset({"grpc-message", "content-disposition"})
"""Kept, but for where contents are not: a message may say a prompt back, a file's name be a user's words."""
_PEERS_WORDS: Final = re.compile(r"(grpc-status \d+(?: \(\w+\))?|websocket closed with \d+): .*", re.DOTALL)
_URL_WORD: Final = re.compile(r"[\w.:+~!$&'()*,;=@/\[\]-]{0,128}", re.ASCII)
PROMPT_PARAMETERS: Final = frozenset({"prompt", "q", "query", "input", "text", "message", "content"})
type Direction = Literal["request", "response"]


def new_key() -> bytes:
    """A key for hashes and pseudonyms. It lives in memory; once it is gone nothing can be linked by it."""
    return secrets.token_bytes(32)


_REMEMBERED: Final = 4096
_REMEMBERED_CHARACTERS: Final = 200


@dataclasses.dataclass(frozen=True)
class RedactionPolicy:
    """What is left out of a trace. The default keeps prompts, and no credential or secret.

    `extra_names` are header and parameter names to redact besides the default's, `kept_headers` headers to
    keep besides the default allow-list (any case). `paths` choose values in JSON bodies, `kinds` and
    `own_patterns` what counts as a secret in them; `prompts` and `completions` say what becomes of texts.
    `key` links equal hashes and pseudonyms, of this policy and its copies in other processes only.
    `cut` replaces the rule by which texts are cut into tokens; `tokenizer` names it.
    """

    extra_names: tuple[str, ...] = ()
    name: str = "default"
    kept_headers: tuple[str, ...] = ()
    paths: tuple[PathRule, ...] = ()
    kinds: tuple[str, ...] = DEFAULT_KINDS
    own_patterns: tuple[OwnPattern, ...] = ()
    prompts: ContentPolicy = "keep"
    completions: ContentPolicy = "keep"
    block_tokens: int = BLOCK_TOKENS
    key: bytes = dataclasses.field(default_factory=new_key, repr=False, compare=False)
    tokenizer: str = ""
    cut: Callable[[str], list[str]] = dataclasses.field(default=pieces_of, repr=False, compare=False)

    def headers(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The header pairs with values replaced where they may not be kept; names, order, duplicates stay."""
        return [(name, self._header_value(name, value)) for name, value in pairs]

    def path(self, path: str) -> str:
        """The path with query, credential parameters' values replaced; all else byte for byte."""
        before, mark, query = path.partition("?")
        if self._is_secret(unquote(before)) or self.is_prose(before):
            before = "/".join(
                REDACTED if self._is_secret(unquote(part)) or self.is_prose(part) else part
                for part in before.split("/")
            )
            if self._is_secret(unquote(before)):  # one that lies across the slashes
                before = f"/{REDACTED}"
        if not mark:
            return before
        return before + mark + "&".join(self._parameter(pair) for pair in query.split("&"))

    def describe(self) -> dict[str, Any]:
        """The policy's name, its digest and what it says of contents, for the trace's metadata."""
        rules = {
            "names": sorted({*CREDENTIAL_NAMES, *(name.lower() for name in self.extra_names)}),
            "name_pattern": CREDENTIAL_NAME_PATTERN,
            "harmless_names": sorted(HARMLESS_NAMES),
            "value_pattern": CREDENTIAL_VALUE_PATTERN,
            "url_headers": sorted(URL_HEADERS),
            "kept_headers": sorted({*KEPT_HEADERS, *(name.lower() for name in self.kept_headers)}),
            "kept_header_pattern": KEPT_HEADER_PATTERN,
            "paths": [[rule.path, rule.action, rule.where] for rule in self.paths],
            "kinds": sorted(self.kinds),
            "vendors": VENDOR_PATTERNS,
            "own_patterns": [[own.kind, own.expression] for own in self.own_patterns],
            "contents": [self.prompts, self.completions, self.block_tokens, self.tokenizer],
        }
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
        return {
            "policy": self.name,
            "extra_names": sorted(self.extra_names),
            "prompts": self.prompts,
            "completions": self.completions,
            "sha256": digest,
        }

    def is_credential(self, name: str) -> bool:
        """Whether a header or parameter of this name holds a credential."""
        lower = name.lower()
        return name_is_credential(lower) or any(lower == extra.lower() for extra in self.extra_names)

    def keeps_header(self, name: str) -> bool:
        """Whether a header of this name may keep its value, as far as that is no secret."""
        lower = name.lower()
        if self.is_credential(lower):
            return False
        return header_is_kept(lower) or any(lower == kept.lower() for kept in self.kept_headers)

    def rules(self, direction: Direction) -> BodyRules:
        """The rules for bodies of one direction."""
        return self._request_rules if direction == "request" else self._response_rules

    def payload(self, payload: bytes, direction: Direction, tally: Tally) -> bytes | None:
        """One message without headers of its own (gRPC, WebSocket): read as JSON where it is, else opaque."""
        rules = self.rules(direction)
        if payload[:1] in (b"{", b"["):
            return redacted_body(payload, (("content-type", "application/json"),), rules, tally).body
        return opaque(payload, rules, tally)

    @property
    def keeps_contents(self) -> bool:
        """Whether prompts and completions stay as they are."""
        return self.prompts == "keep" and self.completions == "keep"

    def is_prose(self, quoted: str) -> bool:
        """Whether a part of a URL may be words, which APIs don't have there; False where prompts are kept."""
        if self.prompts == "keep":
            return False
        return any(not _URL_WORD.fullmatch(unquote_plus(part)) for part in quoted.split("/"))

    def error(self, text: str) -> str:
        """What broke: without secrets and, where contents are not kept, without a peer's own words."""
        return self.text(text if self.keeps_contents else _PEERS_WORDS.sub(r"\1", text))

    def model(self, name: str) -> str | None:
        """A model's name; None when it is none and prompts are not kept."""
        return self.text(name) if self.prompts == "keep" or looks_like_identifier(name) else None

    def text(self, text: str) -> str:
        """A short text (an error, a name) with its secrets replaced."""
        return self._judged_text(text) if len(text) <= _REMEMBERED_CHARACTERS else self._cleaned(text)

    def _cleaned(self, text: str) -> str:
        for one in reversed(self.finder.find(text)):
            text = f"{text[: one.start]}{REDACTED}{text[one.end :]}"
        return text

    def session(self, session_id: str, *, kept: bool) -> str:
        """A session's id; hashed where its source may not be kept, so that turns still belong together."""
        told_apart = self.prompts == "keep" or looks_like_identifier(session_id)
        if kept and (OWN_SESSION.fullmatch(session_id) or (told_apart and not self._is_secret(session_id))):
            return session_id
        return f"session-{self.pseudonyms.digest(session_id)[5:]}"

    def to_values(self) -> dict[str, Any]:
        """The policy as values that JSON can hold, for another process: without the key, which has to go by a
        way that leaves nothing on a disk. A tokenizer goes as its file's name."""
        values = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("key", "cut")
        }
        values["paths"] = [[rule.path, rule.action, rule.where] for rule in self.paths]
        values["own_patterns"] = [[own.kind, own.expression] for own in self.own_patterns]
        return {**values, "tokenizer_file": str(self.cut.path) if isinstance(self.cut, TokenizerCut) else ""}

    @classmethod
    def from_values(cls, values: Mapping[str, Any], key: bytes | None = None) -> RedactionPolicy:
        """The policy of `to_values`, with `key` or a new one."""
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        given["paths"] = tuple(PathRule(*rule) for rule in given["paths"])
        given["own_patterns"] = tuple(OwnPattern(*own) for own in given["own_patterns"])
        if file := given.pop("tokenizer_file", ""):
            given["cut"] = TokenizerCut(Path(file))
        return cls(**given, key=key or new_key())

    @functools.cached_property
    def finder(self) -> SecretFinder:
        """What finds this policy's secrets."""
        return SecretFinder(self.kinds, self.own_patterns)

    @functools.cached_property
    def pseudonyms(self) -> Pseudonyms:
        """Hashes and pseudo-text with this policy's key."""
        return Pseudonyms(self.key, self.block_tokens, self.cut)

    @functools.cached_property
    def _request_rules(self) -> BodyRules:
        paths = tuple(rule for rule in self.paths if rule.where != "response")
        return BodyRules(self.finder, paths, self.prompts, self.pseudonyms, answers=False)

    @functools.cached_property
    def _response_rules(self) -> BodyRules:
        paths = tuple(rule for rule in self.paths if rule.where != "request")
        return BodyRules(self.finder, paths, self.completions, self.pseudonyms, answers=True)

    @functools.cached_property
    def _header_value(self) -> Callable[[str, str], str]:
        """Cached: a client says the same in most of its requests."""
        return functools.lru_cache(4096)(self._judged_header)

    @functools.cached_property
    def _judged_text(self) -> Callable[[str], str]:
        """Cached: there are few models."""
        return functools.lru_cache(256)(self._cleaned)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is derived from them is made anew in another process."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _judged_header(self, name: str, value: str) -> str:
        lower = name.lower()
        if not self.keeps_header(lower) or (lower in CONTENT_HEADERS and not self.keeps_contents):
            return REDACTED
        if lower in URL_HEADERS and ("?" in value or self.prompts != "keep"):
            value = self.path(value)
        return REDACTED if self._is_secret(value) else value

    def _is_secret(self, value: str) -> bool:
        verdicts = self._verdicts
        known = verdicts.get(value)
        if known is None:
            known = value_is_credential(value) or bool(len(value) > 8 and self.finder.find(value))
            if len(value) <= _REMEMBERED_CHARACTERS:
                if len(verdicts) >= _REMEMBERED:
                    verdicts.clear()
                verdicts[value] = known
        return known

    @functools.cached_property
    def _verdicts(self) -> dict[str, bool]:
        """Of header values and paths that were looked at: a client sends the same ones again and again."""
        return {}

    def _parameter(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        plain = unquote_plus(name)
        told = self.prompts != "keep" and (plain.lower() in PROMPT_PARAMETERS or self.is_prose(value))
        if told or self.is_credential(plain) or self._is_secret(unquote_plus(value)):
            return f"{name}{equals}{REDACTED}" if equals else name
        return pair if not self._is_secret(plain) else REDACTED


def redact(
    row: dict[str, Any],
    policy: RedactionPolicy,
    tally: Tally | None = None,
    standing: Container[Direction] = (),
) -> None:
    """Take out of a trace row, in place, what `policy` doesn't keep; `tally` counts that by kind.

    Instants and the number of chunks stay. `chunk_bytes` follows a response body that had to change, so that
    they still cut it; `response_bytes` is what went over the wire. To be called once what the row means has
    been read (`semantics`), for sessions are found by what is left out here. Texts of the bodies `standing`
    are as the policy wants them already, and only searched for secrets.
    """
    counted: Tally = Counter() if tally is None else tally
    after_prompt = redact_request(row, policy, counted, standing)
    redact_answer(row, policy, counted, after_prompt, standing)


def redact_request(
    row: dict[str, Any],
    policy: RedactionPolicy,
    tally: Tally | None = None,
    standing: Container[Direction] = (),
) -> bytes | None:
    """As `redact` for the request's columns alone; gives what `redact_answer` wants as `after_prompt`."""
    counted: Tally = Counter() if tally is None else tally
    redact_session(row, policy)
    after_prompt = _redact_body(row, "request", policy, counted, None, standing)
    for column in ("request_headers", "request_trailers"):
        if row.get(column) is not None:
            row[column] = policy.headers(row[column])
    row["path"] = policy.path(row["path"])
    return after_prompt


def redact_session(row: dict[str, Any], policy: RedactionPolicy) -> None:
    """As `redact` for the session's id alone; its request's headers must be there as they came."""
    if row.get("session_id"):
        kept = _session_is_kept(row["session_id"], row["request_headers"], policy)
        row["session_id"] = policy.session(row["session_id"], kept=kept)


def redact_answer(
    row: dict[str, Any],
    policy: RedactionPolicy,
    tally: Tally | None = None,
    after_prompt: bytes | None = None,
    standing: Container[Direction] = (),
) -> None:
    """As `redact` for the answer's columns, what broke, and the model's name.

    `after_prompt` lets an answer's pseudo-text equal the one that it gets in the next turn's prompt.
    """
    _redact_body(row, "response", policy, Counter() if tally is None else tally, after_prompt, standing)
    for column in ("response_headers", "response_trailers"):
        if row.get(column) is not None:
            row[column] = policy.headers(row[column])
    if row.get("error"):
        row["error"] = policy.error(row["error"])
    if row.get("model"):
        row["model"] = policy.model(row["model"])


def _redact_body(
    row: dict[str, Any],
    direction: Direction,
    policy: RedactionPolicy,
    tally: Tally,
    start: bytes | None,
    standing: Container[Direction],
) -> bytes | None:
    """One direction's body, and the sizes of what it came in."""
    column = f"{direction}_body"
    headers, body, rules = row[f"{direction}_headers"] or (), row[column], policy.rules(direction)
    if direction in standing:
        rules = dataclasses.replace(rules, contents="keep")
    if body and row.get("message_bytes"):
        _redact_messages(row, direction, rules, tally, start)
        return None
    chunks = "chunk_bytes" if direction == "response" else "request_chunk_bytes"
    sizes = row.get(chunks) or ()
    changed = redacted_body(body, headers, rules, tally, sizes=sizes, start=start)
    row[column] = changed.body
    if changed.sizes is not sizes:
        row[chunks] = list(changed.sizes)
    return changed.after_prompt


def _redact_messages(
    row: dict[str, Any], direction: Direction, rules: BodyRules, tally: Tally, start: bytes | None
) -> None:
    """A body that is the messages of its direction: `message_bytes` follows them."""
    body: bytes = row[f"{direction}_body"]
    from_client = direction == "request"
    own = [i for i, client in enumerate(row["message_from_client"]) if bool(client) == from_client]
    borders = [0, *itertools.accumulate(row["message_bytes"][i] for i in own)]
    messages = [body[a:b] for a, b in itertools.pairwise(borders)]
    if borders[-1] != len(body):
        messages, own = [body], []  # cut off: what is there is treated as one
    kind = next((value for name, value in row["request_headers"] if name.lower() == "content-type"), "")
    grpc = kind.lower().startswith("application/grpc") and bool(own)
    changed = redacted_messages(messages, rules, tally, grpc=grpc, start=start)
    row[f"{direction}_body"] = None if changed is None else b"".join(changed)
    if changed is not None and own:
        sizes = list(row["message_bytes"])
        for i, message in zip(own, changed, strict=True):
            sizes[i] = len(message)
        row["message_bytes"] = sizes


def _session_is_kept(session_id: str, headers: Sequence[tuple[str, str]], policy: RedactionPolicy) -> bool:
    """Whether where the session's id came from is kept: its header, or the body's member of that value."""
    if session_in_headers(headers) == session_id:
        return any(policy.keeps_header(name) and value == session_id for name, value in headers)
    chosen = {rule.steps[-1].name for rule in policy.paths if rule.where != "response"}
    return not chosen & {*BODY_SESSION_FIELDS, "id", None}


def redacted_names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names of the headers whose value was taken out, for a replay that must put them back."""
    return [name for name, value in pairs if value == REDACTED]
