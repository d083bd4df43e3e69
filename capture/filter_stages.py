"""mitmproxy's filters, said in stages: as early as what is known of an exchange decides them.

A filter is a tree of conditions. At a request's head some of them are known (method, URL, request headers),
others only with the answer's head (status, response headers) or at the end (errors), and conditions on bodies
are for the recorder (`body_condition`). A tree is decided as soon as what is known decides it, whatever the
rest comes to: `~u /v1/ & ~c 500` is a no at the head of a request to /health. The language takes its time to
load, so that only captures with a filter do (`flow_choice`).
"""

from __future__ import annotations

from typing import Any, Final

from mitmproxy import flowfilter as language
from mitmproxy.http import HTTPFlow

from capture.body_condition import Condition, all_of, any_of, none_of
from capture.choice import UNDECIDED, Stage
from capture.failures import BadInput

EXAMPLE: Final = "--filter '~u /v1/ & ~m POST & !~d internal'"


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
