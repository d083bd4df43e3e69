"""Which requests belong to one conversation, and in which order: a pure, bounded memory of what was seen.

A session is found, in this order, by
1. a session header (`SESSION_HEADERS`), or a conversation named in the body (`session_id`, `conversation_id`,
   `conversation`, and `previous_response_id`, which names an answer seen before);
2. growth of the message list: `messages[:k]` equals an earlier request's messages plus its answer. An answer
   that was not seen whole (dropped body, aborted stream) matches any assistant message in its place;
3. the `user` field. It names a person, not a conversation, so it continues the person's session only while
   requests follow one another: not when this one arrived before the last one ended, nor `USER_IDLE_NS` later.
Any other chat begins a session of its own; a request that is no generation has none (null).

Not found: clients that summarise, trim or rewrite their history, and plain-prompt completions that grow.
No I/O and no clock here; what a request's parts mean is read in `semantics`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

SESSION_HEADERS: Final = (
    "x-session-id",
    "session-id",
    "session_id",
    "x-conversation-id",
    "conversation-id",
    "x-chat-id",
    "x-thread-id",
    "x-openwebui-chat-id",
    "x-litellm-session-id",
    "helicone-session-id",
    "x-claude-code-session-id",
)
_SESSION_HEADERS: Final = frozenset(SESSION_HEADERS)
BODY_SESSION_FIELDS: Final = ("session_id", "conversation_id", "conversation")
USER_IDLE_NS: Final = 30 * 60 * 1_000_000_000
_ASSISTANT_ROLES: Final = frozenset({"assistant", "model"})
_USER_ROLES: Final = ("user", None)
"""Gemini's contents may leave the role out."""
_THINKING: Final = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
OWN_SESSION: Final = re.compile(r"(?:chat|user)-[0-9a-f]{8}-[0-9]{8}")
"""A session that is named after its first request, whose number a proxy gave it."""
_LARGEST_TURN: Final = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Talk:
    """The parts of one request that may tell its session. `answer` is the generated text when it was seen
    whole, else None; `answer_id` is the id the response gave itself."""

    request_id: str
    headers: Sequence[tuple[str, str]]
    request: Any
    answer: str | None
    answer_id: str | None
    arrival_ns: int
    end_ns: int | None


class Recent[K, V]:
    """A dictionary that forgets what was not used for longest once it holds `limit` entries."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of `key`, which counts as used, or None."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Set the value of `key`."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Have no value for `key`."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)


class SessionFinder:
    """Gives each request its (session_id, turn); turns count from 0 in the order of the calls.

    Memory is bounded: each of five tables keeps the `limit` entries used last. A conversation that was
    forgotten and goes on begins a new session.
    """

    def __init__(self, limit: int = 50_000) -> None:
        self._turns: Recent[str, int] = Recent(limit)
        self._answered: Recent[bytes, tuple[str, ...]] = Recent(limit)
        self._unanswered: Recent[bytes, tuple[str, ...]] = Recent(limit)
        self._responses: Recent[str, str] = Recent(limit)
        self._users: Recent[str, tuple[str, int]] = Recent(limit)

    def by_header(self, headers: Iterable[tuple[str, str]]) -> tuple[str, int] | None:
        """Session and turn by a session header alone, or None; counts the turn."""
        session = session_in_headers(headers)
        return None if session is None else (session, self._next_turn(session))

    def find(self, talk: Talk) -> tuple[str | None, int]:
        """(session_id or None, turn) of a request whose answer is over; remembers it for later ones."""
        request = talk.request if isinstance(talk.request, dict) else {}
        named = session_in_headers(talk.headers) or session_in_body(request)
        messages = messages_of(request)
        if named is None and messages is None and not isinstance(request.get("prompt"), str):
            return None, 0
        chain = list(_chain(messages or ()))
        user = request.get("user") if isinstance(request.get("user"), str) else None
        session = (
            named
            or self._by_response(request)
            or self._by_growth(messages or (), chain)
            or (self._by_user(user, talk.arrival_ns) if user else None)
            or f"{'user' if user else 'chat'}-{talk.request_id}"
        )
        self._remember(session, chain, user, talk)
        return session, self._next_turn(session)

    def _next_turn(self, session: str) -> int:
        turn = self._turns.get(session) or 0
        self._turns.put(session, min(turn + 1, _LARGEST_TURN))
        return turn

    def _by_response(self, request: dict[str, Any]) -> str | None:
        earlier = request.get("previous_response_id")
        return self._responses.get(earlier) if isinstance(earlier, str) else None

    def _by_growth(self, messages: Sequence[Any], chain: list[bytes]) -> str | None:
        """The session of the longest earlier exchange that these messages continue."""
        for k in range(len(messages) - 1, 0, -1):
            if not _is_assistant(messages[k]):
                continue
            for table, key in ((self._answered, chain[k]), (self._unanswered, chain[k - 1])):
                session = _claim(table, key)
                if session is not None:
                    return session
        return None

    def _by_user(self, user: str, arrival_ns: int) -> str | None:
        session, last_ns = self._users.get(user) or (None, 0)
        return session if session and 0 <= arrival_ns - last_ns <= USER_IDLE_NS else None

    def _remember(self, session: str, chain: list[bytes], user: str | None, talk: Talk) -> None:
        if chain:
            if talk.answer is None:
                _offer(self._unanswered, chain[-1], session)
            else:
                _offer(self._answered, _link(chain[-1], "assistant", spoken(talk.answer)), session)
        if talk.answer_id:
            self._responses.put(talk.answer_id, session)
        if user:
            _, last_ns = self._users.get(user) or (None, 0)
            end_ns = talk.end_ns if talk.end_ns is not None else talk.arrival_ns
            self._users.put(user, (session, max(last_ns, end_ns)))


def session_in_headers(headers: Iterable[tuple[str, str]]) -> str | None:
    """The value of the first session header in the order of `SESSION_HEADERS`, or None."""
    named = {lower: value for name, value in headers if (lower := name.lower()) in _SESSION_HEADERS}
    return next((named[name] for name in SESSION_HEADERS if named.get(name)), None) if named else None


def messages_of(request: dict[str, Any]) -> list[Any] | None:
    """The request's list of messages (OpenAI chat and responses, Anthropic, Ollama, Gemini), or None."""
    for field in ("messages", "contents", "input"):
        found = request.get(field)
        if isinstance(found, list) and found and all(isinstance(message, dict) for message in found):
            return found
    return None


def first_prompt(request: dict[str, Any]) -> bytes | None:
    """The digest of the messages up to and with the first that is a user's, or None where there is none.

    The same in every turn of a conversation that grows.
    """
    messages = messages_of(request) or ()
    for message, digest in zip(messages, _chain(messages), strict=True):
        if message.get("role") in _USER_ROLES:
            return digest
    return None


def spoken(text: str) -> str:
    """An assistant's text as clients send it back: without thinking blocks and outer white space."""
    return _THINKING.sub("", text).strip()


def session_in_body(request: dict[str, Any]) -> str | None:
    """The session that a request's body names, or None."""
    for field in BODY_SESSION_FIELDS:
        found = request.get(field)
        if isinstance(found, dict):
            found = found.get("id")
        if isinstance(found, str) and found:
            return found
    return None


def _is_assistant(message: Any) -> bool:
    role = message.get("role")
    return isinstance(role, str) and role in _ASSISTANT_ROLES


def _chain(messages: Sequence[Any]) -> Iterator[bytes]:
    """For each k the digest of `messages[:k + 1]`."""
    digest = b""
    for message in messages:
        text = _text_of(message)
        role = "assistant" if _is_assistant(message) else str(message.get("role"))
        digest = _link(digest, role, spoken(text) if role == "assistant" else text)
        yield digest


def _link(digest: bytes, role: str, text: str) -> bytes:
    head = blake2b(digest, digest_size=16)
    head.update(role.encode("utf-8", "surrogatepass") + b"\0")
    head.update(text.encode("utf-8", "surrogatepass"))
    return head.digest()


def _text_of(message: dict[str, Any]) -> str:
    """A message's content as one text; parts that are no text stand as JSON, cache marks left out. An
    assistant's tool calls are left out: servers and clients spell them differently."""
    content = message.get("content", message.get("parts"))
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else json.dumps(content, sort_keys=True)
    texts = []
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and not _is_assistant(message):
            kept = {name: value for name, value in part.items() if name != "cache_control"}
            texts.append(json.dumps(kept, sort_keys=True))
        elif isinstance(part, str):
            texts.append(part)
    return "".join(texts)


def _offer(table: Recent[bytes, tuple[str, ...]], key: bytes, session: str) -> None:
    waiting = table.get(key) or ()
    if session not in waiting:
        table.put(key, (*waiting[-7:], session))


def _claim(table: Recent[bytes, tuple[str, ...]], key: bytes) -> str | None:
    """The session that waited longest at this point; the last one stays, so that a chat can branch."""
    waiting = table.get(key)
    if not waiting:
        return None
    if len(waiting) > 1:
        table.put(key, waiting[1:])
    return waiting[0]
