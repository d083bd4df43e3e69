"""Which of the requests that pass are recorded, said as early as it can be: mitmproxy's filters, in stages.

A filter is a tree of conditions. At a request's head some of them are known (method, URL, request headers),
others only with the answer's head (status, response headers) or at the end (errors), and conditions on bodies
are for the recorder (`body_condition`). A tree is decided as soon as what is known decides it, whatever the
rest comes to: `~u /v1/ & ~c 500` is a no at the head of a request to /health.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from mitmproxy import flowfilter as language
from mitmproxy.http import HTTPFlow

from capture.body_condition import Condition, all_of, any_of, none_of
from capture.choice import BY_FILTER, BY_SAMPLE, Choice
from capture.failures import BadInput
from capture.raw_headers import pairs_of
from capture.session_sample import SessionSample
from capture.sessions import session_in_headers

UNDECIDED: Final = "undecided"
EXAMPLE: Final = "--filter '~u /v1/ & ~m POST & !~d internal'"


class Stage(enum.IntEnum):
    """How much of an exchange is known."""

    ASKED = 0  # the request's head
    ANSWERED = 1  # and the response's head
    OVER = 2  # and everything else


_KNOWN_AT: Final[dict[type, Stage]] = {
    **dict.fromkeys(
        (
            *(language.FMethod, language.FDomain, language.FUrl, language.FSrc, language.FHeadRequest),
            *(language.FContentTypeRequest, language.FHTTP, language.FAll, language.FTCP, language.FUDP),
            *(language.FDNS, language.FReplay, language.FReplayClient, language.FReplayServer),
        ),
        Stage.ASKED,
    ),
    **dict.fromkeys(
        (
            *(language.FCode, language.FHeadResponse, language.FContentTypeResponse, language.FAsset),
            *(language.FResp, language.FReq, language.FDst, language.FHead, language.FContentType),
        ),
        Stage.ANSWERED,
    ),
}
"""From when on a condition's answer doesn't change any more; the end where none is given."""

_TRUE_ALREADY: Final = (language.FHead, language.FContentType)
"""Conditions on either head: one that the request's meets is met."""


def parse_filter(text: str) -> Any:
    """The filter that `text` says; raises `BadInput` naming the flag."""
    try:
        return language.parse(text)
    except ValueError as error:
        cause = f" ({error.__cause__})" if isinstance(error.__cause__, ValueError) else ""
        found = f"--filter {text!r}: no filter of mitmproxy{cause}"
        raise BadInput(
            f"{found}; for example {EXAMPLE} (https://docs.mitmproxy.org/stable/concepts/filters/)"
        ) from error


def decide(node: Any, flow: HTTPFlow, stage: Stage) -> Condition:
    """What a filter says of a flow of which so much is known: yes, no, or what it comes down to.

    At the end only conditions on bodies are left; before, the rest is a list as well, of no further use.
    """
    if isinstance(node, language.FAnd):
        return all_of([decide(part, flow, stage) for part in node.lst])
    if isinstance(node, language.FOr):
        return any_of([decide(part, flow, stage) for part in node.lst])
    if isinstance(node, language.FNot):
        return none_of(decide(node.itm, flow, stage))
    if isinstance(node, language.FBod):
        return any_of([["request", node.expr, node.re.flags], ["response", node.expr, node.re.flags]])
    if isinstance(node, language.FBodRequest | language.FBodResponse):
        side = "request" if isinstance(node, language.FBodRequest) else "response"
        return [side, node.expr, node.re.flags]
    known = stage >= _KNOWN_AT.get(type(node), Stage.OVER)
    if known or isinstance(node, _TRUE_ALREADY):
        met = bool(node(flow))
        if known or met:
            return met
    return [UNDECIDED]


class FlowChoice:
    """What one capture's choice says of flows: "" for yes, `UNDECIDED`, or why not.

    The sample is decided here where a header names the session, which costs a look at the headers and spares
    everything else; without one the session is in the body, which is the recorder's to read.
    """

    def __init__(self, choice: Choice) -> None:
        self._filter = parse_filter(choice.filter) if choice.filter else None
        self._sample = SessionSample(choice.sample, choice.sample_seed) if choice.sample < 1 else None

    @property
    def takes_all(self) -> bool:
        """Whether there is nothing to choose."""
        return self._filter is None and self._sample is None

    def asked(self, flow: HTTPFlow) -> str:
        """What can be said at the request's head."""
        if self._sample is not None:
            session = session_in_headers(pairs_of(flow.request.headers.fields))
            if session is not None and not self._sample.takes(session):
                return BY_SAMPLE
        return self._at(flow, Stage.ASKED)

    def answered(self, flow: HTTPFlow) -> str:
        """What can be said at the response's head, of a flow that was undecided."""
        return self._at(flow, Stage.ANSWERED)

    def over(self, flow: HTTPFlow) -> Condition:
        """What is said at the end, of a flow that was undecided: yes, no, or a condition on its bodies."""
        return decide(self._filter, flow, Stage.OVER)

    def _at(self, flow: HTTPFlow, stage: Stage) -> str:
        if self._filter is None:
            return ""
        decided = decide(self._filter, flow, stage)
        if isinstance(decided, bool):
            return "" if decided else BY_FILTER
        return UNDECIDED
