"""Which of the requests that reached the recorder become rows: what a choice needs bodies for.

The other half of `flow_choice`: sessions that only a body names, and a filter's conditions on bodies. It runs
in the recorder's process, where parsing and decompressing hold up no client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from capture.body_condition import Condition, holds
from capture.choice import BY_FILTER, BY_SAMPLE, Choice
from capture.content_codings import decode_content
from capture.semantics import answer_id, header, json_body
from capture.session_sample import SessionSample
from capture.sessions import session_in_headers


class RowChoice:
    """One capture's choice as its recorder makes it; `not_chosen` counts by reason.

    `refused` are requests in flight that the sample doesn't have: their end is to be passed over.
    """

    def __init__(self, choice: Choice) -> None:
        self._sample = SessionSample(choice.sample, choice.sample_seed) if choice.sample < 1 else None
        self._awaited: dict[str, str] = {}
        self.refused: set[str] = set()
        self.not_chosen: Counter[str] = Counter()

    def takes(self, came: Mapping[str, Any], *, at_end: bool = False) -> bool | None:
        """Whether the sample has a request; None as long as the body, which may tell, is not all there.

        One whose headers name the session was drawn by its proxy.
        """
        if self._sample is None or session_in_headers(came["request_headers"]) is not None:
            return True
        if came.get("request_body_ns") is None and not at_end:
            return None
        request = json_body(came.get("request_body"), came["request_headers"])
        name = self._sample.name_of(request, came["request_id"])
        if isinstance(request, dict) and "input" in request:
            self._awaited[came["request_id"]] = name
        return self._sample.takes(name)

    def refuse(self, request_id: str) -> None:
        """The sample doesn't have a request that is in flight."""
        self.refused.add(request_id)

    def over(self, request_id: str, columns: Mapping[str, Any]) -> None:
        """A request is over: the id of its answer may be what the conversation's next turn is known by."""
        name = self._awaited.pop(request_id, None)
        if self._sample is not None and name is not None:
            found = answer_id(columns.get("response_body"), columns.get("response_headers") or ())
            if found:
                self._sample.answered(name, found)

    def is_refused(self, request_id: str) -> bool:
        """Whether the end of a request is that of a refused one, which is counted then."""
        if request_id not in self.refused:
            return False
        self.refused.remove(request_id)
        self.not_chosen[BY_SAMPLE] += 1
        return True

    def meets(self, row: Mapping[str, Any], condition: Condition) -> bool:
        """Whether a row's bodies, their codings taken off, meet the filter's condition; counted if not."""
        if condition is True:
            return True
        met = holds(condition, _plain(row, "request"), _plain(row, "response"))
        self.not_chosen[BY_FILTER] += not met
        return met

    def forget(self, request_id: str) -> None:
        """A request will have no end."""
        self.refused.discard(request_id)
        self._awaited.pop(request_id, None)

    def give_up(self) -> None:
        """Nothing will have an end any more."""
        self.not_chosen[BY_SAMPLE] += len(self.refused)
        self.refused.clear()


def _plain(row: Mapping[str, Any], side: str) -> bytes | None:
    body = row.get(f"{side}_body")
    coding = header(row.get(f"{side}_headers") or (), "content-encoding")
    return None if body is None else decode_content(body, coding)
