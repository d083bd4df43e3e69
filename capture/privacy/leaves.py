"""One pass over a JSON document: what is replaced at once, and which strings are to be judged.

Paths, echoes of the prompt (log-probabilities), embeddings and token ids are settled here. Strings come out
as `Leaf` values in the order in which a model would read them; `documents` decides about those.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Final

from capture.privacy.body_rules import BodyRules, Tally, count, marker
from capture.privacy.contents import (
    API_WORDS,
    ARGUMENT_KEYS,
    ECHO_KEYS,
    EMBEDDING_KEYS,
    HASHED,
    LISTED_WORDS,
    NAMED_BY_USERS,
    SCHEMA_FIELDS,
    TOKEN_ID_KEYS,
    is_content,
)
from capture.privacy.credential_names import HARMLESS_NAMES, name_is_credential
from capture.privacy.edits import Edit
from capture.privacy.json_paths import PathRule, States, advance
from capture.privacy.json_text import ARRAY, LITERAL, OBJECT, STRING, Node, decoded, encoded
from capture.privacy.secret_patterns import MARKS, looks_random

_PLAIN_SECRETS: Final = (
    "password passwd passphrase secret client_secret secret_key api_key apikey access_key secret_access_key"
    " private_key access_token refresh_token id_token auth_token session_token bearer_token api_token"
    " authorization cookie set_cookie x_api_key connection_string credentials"
)
PLAIN_SECRETS: Final = frozenset(name.replace("_", "") for name in _PLAIN_SECRETS.split())
"""Members of these names hold a secret whatever it looks like; other credential names only a random one."""
_NO_SECRETS: Final = frozenset({*HARMLESS_NAMES, "signature", "thought-signature", "sig", "key"})
NEW_CHAIN: Final = "\0"
"""The step that begins a chain of pseudo-text anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: below the body's member `field`, itself member `key`; `path` names its group."""

    field: str = ""
    key: str = ""
    path: tuple[str | int, ...] = ()
    names: bool = False
    """Whether member names and numbers here are the user's own words (arguments of a tool call)."""

    @property
    def told(self) -> str:
        """The JSON path, indices left out: "$.messages[*].content"."""
        steps = ("[*]" if step == "*" else f".{step}" for step in self.path if not str(step).isdecimal())
        return f" ${''.join(steps)}"


@dataclasses.dataclass(slots=True)
class Leaf:
    """A string at text[start:end] (with its quotes), decoded; or, with `step` set, the start of a message."""

    start: int
    end: int
    text: str
    place: Place
    lane: str = ""
    content: bool = False
    secret_name: bool = False
    is_name: bool = False
    step: str | None = None


class Pass:
    """Walks documents of one `text`; `edits` and `leaves` gather what it finds."""

    def __init__(self, text: str, rules: BodyRules, tally: Tally) -> None:
        self.edits: list[Edit] = []
        self.leaves: list[Leaf] = []
        self._text = text
        self._rules = rules
        self._tally = tally
        self._keeps = rules.contents == "keep"

    def walk(self, node: Node, states: States, place: Place) -> None:
        """Gather what is below `node`; raises ValueError where a string can't be decoded."""
        if node.kind == OBJECT:
            self._object(node, states, place)
        elif node.kind == ARRAY:
            self._array(node, states, place)
        elif node.kind == STRING:
            self._string(node, place, secret_name=False)
        else:
            self._literal(node, place)

    def _object(self, node: Node, states: States, place: Place) -> None:
        members = [(decoded(self._text, child.key_start, child.key_end), child) for child in node.children]
        pair = self._name_of_pair(members)
        index = next((self._text[c.start : c.end] for key, c in members if key in _INDICES), None)
        path = place.path if index is None else (*place.path, index)
        dropped: set[int] = set()
        for number, (key, child) in enumerate(members):
            further, hit = advance(states, key)
            if hit is not None and self._chosen(child, hit):
                dropped.add(number)
                continue
            if hit is not None or (not self._keeps and self._settled(key, child)):
                continue
            below = Place(
                field=place.field or key,
                key=key,
                path=(*path, key),
                names=place.names or key in ARGUMENT_KEYS or (key == "input" and place.field == "messages"),
            )
            self._member_name(child, key, place)
            if child.kind == STRING:
                asked = pair if key == "value" and pair else key
                self._string(
                    child, below, secret_name=holds_secret(asked, decoded_or_none(self._text, child))
                )
            else:
                self.walk(child, further, below)
        self.edits += _removed(node.children, dropped)

    def _array(self, node: Node, states: States, place: Place) -> None:
        if not self._keeps and self._token_ids(node, place):
            return
        dropped: set[int] = set()
        outermost = len(place.path) == 1
        below = dataclasses.replace(place, path=(*place.path, "*"))
        for number, child in enumerate(node.children):
            further, hit = advance(states, number)
            if hit is not None and self._chosen(child, hit):
                dropped.add(number)
            if hit is not None:
                continue
            if outermost and not self._rules.answers and not self._keeps:
                if child.kind == OBJECT:
                    self.leaves.append(self._message(child, place))
                elif child.kind == STRING:  # each a prompt of its own
                    self.leaves.append(Leaf(0, 0, "", place, place.field, step=NEW_CHAIN))
            listed = place
            if place.key in API_WORDS - LISTED_WORDS:
                listed = dataclasses.replace(place, key="")
            self.walk(child, further, listed if child.kind == STRING else below)
        self.edits += _removed(node.children, dropped)

    def _string(self, node: Node, place: Place, *, secret_name: bool) -> None:
        text = decoded(self._text, node.start, node.end)
        content = not self._keeps and is_content(place.field, place.key, text)
        lane = place.field if not self._rules.answers else "/".join(map(str, place.path))
        self.leaves.append(Leaf(node.start, node.end, text, place, lane, content, secret_name))

    def _literal(self, node: Node, place: Place) -> None:
        """Numbers: a user's own in a tool call, and whatever number the finder knows as a secret."""
        text = self._text[node.start : node.end]
        if text[0] not in "-0123456789":
            return
        if place.names and not self._keeps and not self._rules.audit:
            pseudo = self._rules.contents == "pseudonymise"
            self.edits.append(
                Edit(node.start, node.end, self._rules.pseudonyms.number(text) if pseudo else "0")
            )
        elif len(text) >= 9 and (found := self._rules.finder.find(text)):
            count(self._tally, found[0].kind, place.told)
            self.edits.append(Edit(node.start, node.end, "0"))

    def _member_name(self, child: Node, key: str, place: Place) -> None:
        """A member's name can be content (a tool's parameter) or hold a secret."""
        own = (
            not self._keeps
            and key
            and (place.names or (place.key in NAMED_BY_USERS and place.field in SCHEMA_FIELDS))
        )
        if own or len(key) >= 9:
            place = dataclasses.replace(place, key="name")
            self.leaves.append(Leaf(child.key_start, child.key_end, key, place, "", bool(own), is_name=True))

    def _message(self, child: Node, place: Place) -> Leaf:
        role = next(
            (
                decoded(self._text, c.start, c.end)
                for c in child.children
                if c.kind == STRING and decoded(self._text, c.key_start, c.key_end) == "role"
            ),
            "",
        )
        return Leaf(0, 0, "", place, place.field, step=role)

    def _name_of_pair(self, members: Sequence[tuple[str, Node]]) -> str:
        """The name in {"name": …, "value": …}, or ""."""
        named = {key: child for key, child in members if key in ("name", "key", "value")}
        child = named.get("name") or named.get("key")
        if "value" not in named or child is None or child.kind != STRING:
            return ""
        return decoded(self._text, child.start, child.end)

    def _settled(self, key: str, child: Node) -> bool:
        """Whether the member repeats the prompt in another form, and has been emptied for that."""
        if self._rules.audit:
            if key in (*ECHO_KEYS, *EMBEDDING_KEYS) and child.children:
                count(self._tally, self._rules.content_kind, f" {key}")
            return key in EMBEDDING_KEYS
        if key in ECHO_KEYS and child.kind in (OBJECT, ARRAY):
            self.edits.append(Edit(child.start, child.end, "null"))
            return True
        if key in EMBEDDING_KEYS and child.kind in (ARRAY, STRING):
            if child.kind == STRING and self._rules.contents == "pseudonymise":
                noise = self._rules.pseudonyms.base64_noise(self._text[child.start + 1 : child.end - 1])
                self.edits.append(Edit(child.start, child.end, f'"{noise}"'))
            else:
                self.edits.append(Edit(child.start, child.end, "[]" if child.kind == ARRAY else '""'))
            return True
        return False

    def _token_ids(self, node: Node, place: Place) -> bool:
        if (
            self._rules.audit
            or place.key not in TOKEN_ID_KEYS
            or not node.children
            or node.children[0].kind != LITERAL
        ):
            return False
        ids = json.loads(self._text[node.start : node.end])
        made: list[int] = []
        if self._rules.contents == "pseudonymise":
            pseudonyms = self._rules.pseudonyms
            _, made = pseudonyms.token_ids(pseudonyms.step(b"", place.field), ids)
        self.edits.append(Edit(node.start, node.end, json.dumps(made)))
        return True

    def _chosen(self, node: Node, rule: PathRule) -> bool:
        """Do what a path rule says of `node`; true when it is to be removed from what holds it."""
        stack, edits = [node], []
        while stack:
            one = stack.pop()
            stack += one.children
            if one.kind in (STRING, LITERAL):
                edits.append(Edit(one.start, one.end, self._instead(one, rule)))
        if rule.action == "drop" or any(edit.new != self._text[edit.start : edit.end] for edit in edits):
            count(self._tally, f"path {rule.path}")
        self.edits += edits if rule.action != "drop" else ()
        return rule.action == "drop"

    def _instead(self, node: Node, rule: PathRule) -> str:
        raw = self._text[node.start : node.end]
        if raw == "null":
            return raw
        if rule.action == "hash":
            text = decoded(self._text, node.start, node.end) if node.kind == STRING else raw
            if HASHED.fullmatch(text):
                return raw
            return encoded(self._rules.pseudonyms.digest(text))
        if node.kind == STRING:
            return encoded(marker("path"))
        return "false" if raw in ("true", "false") else "0"


_INDICES: Final = frozenset({"index", "output_index", "content_index"})


def holds_secret(name: str, text: str | None) -> bool:
    """Whether a member of this name with this text is a credential by its name."""
    lower = name.lower().replace("-", "_")
    if not text or text.startswith(MARKS) or lower.replace("_", "-") in _NO_SECRETS:
        return False
    if lower.replace("_", "") in PLAIN_SECRETS:
        return True
    return name_is_credential(lower) and looks_random(text) and not any(map(str.isspace, text))


def decoded_or_none(text: str, node: Node) -> str | None:
    """The node's string; None when it is none or a wrong escape stands in it."""
    try:
        return decoded(text, node.start, node.end)
    except ValueError:
        return None


def _removed(children: Sequence[Node], dropped: set[int]) -> list[Edit]:
    """The edits that take members or elements out, each with one comma."""
    if len(dropped) == len(children):
        return [Edit(children[0].first, children[-1].end, "")] if children else []
    last_kept = max((i for i in range(len(children)) if i not in dropped), default=-1)
    return [
        Edit(children[i].first, children[i + 1].first, "")
        if i < last_kept
        else Edit(children[i - 1].end, children[i].end, "")
        for i in sorted(dropped)
    ]
