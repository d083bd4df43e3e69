"""JSON and plain text under the rules: which edits a text needs. One document, or the events of a stream.

A text is a sequence of `Part`s (a whole body is one, an event stream one per event). Strings that a reader
would join, the same member of consecutive events, are judged joined: a secret may be cut anywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from capture.privacy.body_rules import BodyRules, Tally, count, marker
from capture.privacy.contents import CONVERSATIONS, NAME_KEYS, conforms, stands_for
from capture.privacy.edits import Edit, settled, spliced
from capture.privacy.json_paths import begin
from capture.privacy.json_text import encoded, read_documents
from capture.privacy.leaves import NEW_CHAIN, Leaf, Pass, Place
from capture.privacy.pseudonyms import spread_evenly
from capture.privacy.secret_patterns import ASSIGNED

_UNREADABLE: Final = "[REDACTED:unreadable]"
_SHORTEST: Final = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """text[start:end], in which JSON or plain text stands."""

    start: int
    end: int


class Judge:
    """Finds the edits for the parts of one body. `states` are the chains of its pseudo-text, by lane."""

    def __init__(self, rules: BodyRules, tally: Tally, start: bytes | None = None) -> None:
        """`start` is where the chains of an answer begin: the state after its prompt."""
        self._rules = rules
        self._tally = tally
        self._start = start
        self.states: dict[str, bytes] = {}

    @property
    def after_prompt(self) -> bytes:
        """The chain's state after the request's conversation, where its answer goes on."""
        state = next((self.states[lane] for lane in CONVERSATIONS if lane in self.states), b"")
        return self._rules.pseudonyms.step(state, "assistant")

    def edits(self, text: str, parts: Sequence[Part]) -> list[Edit]:
        """What has to be replaced in `text`, ascending and disjoint."""
        edits: list[Edit] = []
        groups: dict[tuple[object, ...], list[Leaf]] = {}
        for number, part in enumerate(parts):
            try:
                passed = self._read(text[part.start : part.end], nested=False, alone=len(parts) == 1)
            except ValueError:
                leaf = self._unreadable(text, part, edits)
                if leaf is not None:
                    groups.setdefault(("",), []).append(leaf)
                continue
            edits += _shifted(passed.edits, part.start)
            for order, leaf in enumerate(passed.leaves):
                alone = len(parts) == 1 or leaf.is_name or leaf.step is not None
                key = (number, order) if alone else ("", *leaf.place.path)
                leaf.start, leaf.end = leaf.start + part.start, leaf.end + part.start
                groups.setdefault(key, []).append(leaf)
        for group in groups.values():
            edits += self._judged(group)
        return settled(edits)

    def _read(self, text: str, *, nested: bool, alone: bool = True) -> Pass:
        """One pass over the documents in `text`; raises ValueError when it is no JSON.

        One of many that is a bare word or number may be a piece of plain text: that is no JSON either.
        """
        if not alone and text.lstrip()[:1] not in ("{", "[", '"'):
            raise ValueError("not JSON")
        passed = Pass(text, self._rules, self._tally)
        states = begin(self._rules.paths, nested=nested)
        place = Place(names=nested and self._rules.contents != "keep")
        for document in read_documents(text):
            passed.walk(document, states, place)
        return passed

    def _unreadable(self, text: str, part: Part, edits: list[Edit]) -> Leaf | None:
        """A part that is no JSON: plain text as it stands, or emptied where paths can't be followed in it."""
        raw = text[part.start : part.end]
        if raw.strip() in ("[DONE]", _UNREADABLE):
            return None
        if raw.lstrip()[:1] in ("{", "[") and not self._rules.only_secrets:
            count(self._tally, "unreadable")
            edits.append(Edit(part.start, part.end, _UNREADABLE))
            return None
        content = self._rules.contents != "keep" and bool(raw.strip())
        return Leaf(part.start, part.end, raw, Place(path=("",)), "", content)

    def _judged(self, group: list[Leaf]) -> Iterator[Edit]:
        """The edits of strings that belong together."""
        first = group[0]
        if first.step == NEW_CHAIN:
            self.states.pop(first.lane, None)
            return
        if first.step is not None:
            self.states[first.lane] = self._rules.pseudonyms.step(self._state(first.lane), first.step)
            return
        texts = [leaf.text for leaf in group]
        if first.secret_name and ASSIGNED in self._rules.finder.kinds:
            count(self._tally, ASSIGNED, first.place.told)
            changed = [marker(ASSIGNED), *("" for _ in texts[1:])]
        elif any(leaf.content for leaf in group):
            if self._rules.audit:
                self._audited(first, "".join(texts))
                return
            count(self._tally, self._rules.content_kind)
            changed = self._content(first, texts)
        else:
            changed = self._without_secrets(texts, first.place.told)
        for leaf, text in zip(group, changed, strict=True):
            if text != leaf.text:
                plain = leaf.place.path == ("",)
                yield Edit(leaf.start, leaf.end, text if plain else encoded(text))

    def _content(self, leaf: Leaf, texts: list[str]) -> list[str]:
        """What stands for a prompt's or completion's text, shared out like the text itself."""
        pseudonyms, whole = self._rules.pseudonyms, "".join(texts)
        if leaf.is_name:
            new = (
                pseudonyms.name(whole) if self._rules.contents == "pseudonymise" else pseudonyms.digest(whole)
            )
            return [new]
        instead = stands_for(whole, leaf.place.key, self._rules)
        if instead is None and leaf.place.names and leaf.place.key in NAME_KEYS:
            instead = pseudonyms.name(whole)
        if instead is None and len(texts) == 1:
            instead = self._nested(whole)
        if instead is not None:
            return spread_evenly(instead, [len(text) for text in texts])
        before = self._state(leaf.lane)
        self.states[leaf.lane], words = pseudonyms.words(before, whole)
        return pseudonyms.spread(before, texts) if len(texts) > 1 else ["".join(words)[1:]]

    def _audited(self, leaf: Leaf, text: str) -> None:
        """Count a text that is not as the policy would have left it."""
        if conforms(text, leaf.place.key, self._rules):
            return
        if self._rules.contents == "pseudonymise" and self._nested(text) is not None:
            return  # JSON: what is in it was judged string by string
        count(self._tally, self._rules.content_kind, leaf.place.told)

    def _state(self, lane: str) -> bytes:
        if lane not in self.states:
            answers = self._rules.answers and self._start is not None
            self.states[lane] = self._start if answers else self._rules.pseudonyms.step(b"", lane)  # type: ignore[assignment]
        return self.states[lane]

    def _nested(self, text: str) -> str | None:
        """JSON in a string (a tool call's arguments) with its own strings replaced; None when it is none."""
        if text.lstrip()[:1] not in ("{", "["):
            return None
        edits = self._edits_within(text)
        return None if edits is None else spliced(text, edits)

    def _without_secrets(self, texts: list[str], below: str) -> list[str]:
        whole = "".join(texts)
        if len(whole) < _SHORTEST:
            return texts
        edits = self._edits_within(whole) if whole.lstrip()[:1] in ("{", "[") else None
        if edits is None:
            edits = self.found(whole, below)
        return _shared_out(texts, edits) if edits else texts

    def _edits_within(self, text: str) -> list[Edit] | None:
        try:
            passed = self._read(text, nested=True)
        except ValueError:
            return None
        judged = (edit for leaf in passed.leaves if leaf.step is None for edit in self._judged([leaf]))
        return settled((*passed.edits, *judged))

    def found(self, text: str, below: str = "") -> list[Edit]:
        """The edits that take the secrets out of a plain text."""
        edits = []
        for one in self._rules.finder.find(text):
            count(self._tally, one.kind, below)
            edits.append(Edit(one.start, one.end, marker(one.kind)))
        return edits


def _shared_out(texts: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    """The texts with edits of their joined text made. What is new is shared out among the texts that it
    touches, so that one which held something still does."""
    borders = [0, *itertools.accumulate(map(len, texts))]
    own: list[list[Edit]] = [[] for _ in texts]
    for edit in edits:
        spans = [
            (i, max(edit.start, begun) - begun, min(edit.end, ended) - begun)
            for i, (begun, ended) in enumerate(itertools.pairwise(borders))
            if edit.start < ended and edit.end > begun
        ]
        shares = spread_evenly(edit.new, [end - start for _, start, end in spans])
        for (i, start, end), new in zip(spans, shares, strict=True):
            own[i].append(Edit(start, end, new))
    return [spliced(text, edits) for text, edits in zip(texts, own, strict=True)]


def _shifted(edits: Sequence[Edit], by: int) -> list[Edit]:
    return [Edit(edit.start + by, edit.end + by, edit.new) for edit in edits]
