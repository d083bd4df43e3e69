"""Searching a finished trace for what should not be in it: counts by kind and place, never what was found.

A row is judged by the rules that would have redacted it. What stands there as the policy leaves it (a marker,
a hash, pseudo-text) counts as nothing; everything else that the policy would have changed is a finding.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, unquote_plus

from capture.privacy.bodies import redacted_body
from capture.privacy.body_rules import BodyRules, PlacedTally, Tally, count
from capture.privacy.credential_names import REDACTED, URL_HEADERS, value_is_credential
from capture.privacy.messages import redacted_messages
from capture.redaction import CONTENT_HEADERS, PROMPT_PARAMETERS, Direction, RedactionPolicy

TEXT_COLUMNS = ("session_id", "model", "error", "host")


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """So many of one kind at one place."""

    count: int
    kind: str
    place: str


class Audit:
    """Gathers findings over rows; memory grows with the kinds and places found, not with the rows."""

    def __init__(self, policy: RedactionPolicy) -> None:
        self._policy = policy
        self._rules = {
            side: dataclasses.replace(policy.rules(side), audit=True) for side in ("request", "response")
        }
        self._tally = PlacedTally()
        self.rows = 0

    def row(self, row: Mapping[str, Any]) -> None:
        """Search one trace row, its headers as (name, value) pairs."""
        self.rows += 1
        for column in TEXT_COLUMNS:
            if row.get(column):
                self._text(column, row[column])
        self._words(row)
        self._tally.column = "path"
        self._path(row["path"])
        for side in ("request", "response"):
            for part in ("headers", "trailers"):
                self._headers(f"{side}_{part}", row.get(f"{side}_{part}") or ())
            self._body(row, side)

    def findings(self) -> list[Finding]:
        """What was found, most frequent first."""
        told: Counter[tuple[str, str]] = Counter()
        for (kind, place), number in self._tally.places.items():
            told[kind, self._policy.text(place)] += number  # a member's name can be what was found
        found = (Finding(number, kind, place) for (kind, place), number in told.items())
        return sorted(found, key=lambda one: (-one.count, one.kind, one.place))

    def _text(self, column: str, text: str) -> None:
        self._tally.column = column
        for one in self._policy.finder.find(text):
            count(self._tally, one.kind)

    def _words(self, row: Mapping[str, Any]) -> None:
        """A peer's words and a user's in columns that the policy leaves without them."""
        policy, error, model = self._policy, row.get("error") or "", row.get("model") or ""
        for column, is_told in (
            ("error", policy.error(error) != policy.text(error)),
            ("model", bool(model) and policy.model(model) is None),
        ):
            if is_told:
                self._tally.column = column
                count(self._tally, "words_of_a_peer" if column == "error" else "prompt_as_model")

    def _path(self, path: str) -> None:
        before, _, query = path.partition("?")
        self._value(unquote(before), "")
        if self._policy.is_prose(before):
            count(self._tally, "prompt_in_path")
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            plain = unquote_plus(name)
            if not value or value == REDACTED:
                continue
            below = f"?{plain if not self._policy.finder.find(plain) else '…'}"
            if self._policy.is_credential(plain):
                count(self._tally, "credential_parameter", below)
            elif self._policy.prompts != "keep" and (
                plain.lower() in PROMPT_PARAMETERS or self._policy.is_prose(value)
            ):
                count(self._tally, "prompt_parameter", below)
            else:
                self._value(unquote_plus(value), below)

    def _value(self, value: str, below: str) -> None:
        """A value that should hold no secret."""
        found = self._policy.finder.find(value)
        for one in found:
            count(self._tally, one.kind, below)
        if not found and value_is_credential(value):
            count(self._tally, "credential", below)

    def _headers(self, column: str, pairs: Iterable[tuple[str, str]]) -> None:
        self._tally.column = column
        for name, value in pairs:
            if value == REDACTED:
                continue
            below = f".{name.lower()}"
            if self._policy.is_credential(name):
                count(self._tally, "credential_header", below)
            elif not self._policy.keeps_header(name):
                count(self._tally, "header_not_on_the_list", below)
            elif name.lower() in CONTENT_HEADERS and not self._policy.keeps_contents:
                count(self._tally, "words_of_a_peer", below)
            elif name.lower() in URL_HEADERS and self._policy.is_prose(value.partition("?")[0]):
                count(self._tally, "prompt_in_path", below)
            else:
                self._value(value, below)

    def _body(self, row: Mapping[str, Any], side: Direction) -> None:
        self._tally.column = f"{side}_body"
        _search_body(row, side, self._rules[side], self._tally)


def stands(row: Mapping[str, Any], side: Direction, policy: RedactionPolicy) -> bool:
    """Whether the texts of a row's body are as the policy would have made them, as far as can be told."""
    rules, tally = dataclasses.replace(policy.rules(side), audit=True), Counter[str]()
    _search_body(row, side, rules, tally)
    return rules.content_kind not in tally


def _search_body(row: Mapping[str, Any], side: Direction, rules: BodyRules, tally: Tally) -> None:
    body = row[f"{side}_body"]
    if not body:
        return
    if row.get("message_bytes"):
        redacted_messages(_messages(row, side), rules, tally)
    else:
        redacted_body(body, row[f"{side}_headers"] or (), rules, tally)


def _messages(row: Mapping[str, Any], side: Direction) -> list[bytes]:
    sizes: Sequence[int] = [
        size
        for size, client in zip(row["message_bytes"], row["message_from_client"], strict=True)
        if bool(client) == (side == "request")
    ]
    body, at, messages = row[f"{side}_body"], 0, []
    for size in sizes:
        messages.append(body[at : at + size])
        at += size
    return [*messages, body[at:]] if at < len(body) else messages
