"""Flows of old mitmproxys, as far as mitmproxy's own converters don't take them. Pure.

They begin with 0.11, and stumble over flows of before 0.14 that had no answer. Until 0.10 a flow had no id,
and knew of connections only the client's address within the request.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

_FIRST_KNOWN: Final = (0, 11)
_ANSWER_OPTIONAL: Final = (0, 14)
_STAND_IN: Final = {
    **dict.fromkeys((b"content", b"msg"), b""),
    **dict.fromkeys((b"timestamp_start", b"timestamp_end"), 1.0),
    b"code": 200,
    b"headers": [],
    b"httpversion": [1, 1],
}


def migrated(
    flow: dict[Any, Any], number: int, convert: Callable[[dict[Any, Any]], dict[Any, Any]]
) -> dict[Any, Any]:
    """The flow as the installed mitmproxy has them, by `convert`, its own converters.

    `number` makes the id of a flow that has none. Raises whatever malformed parts lead to.
    """
    version = flow.get(b"version")
    old = isinstance(version, list) and (0, 1) <= tuple(version[:2]) < _ANSWER_OPTIONAL
    if not old:
        return convert(flow)
    flow = dict(upgraded(flow, number))
    answered = flow.get(b"response") is not None
    converted = convert(flow if answered else flow | {b"response": copy.deepcopy(_STAND_IN)})
    return converted if answered else converted | {"response": None}


def upgraded(flow: Mapping[Any, Any], number: int) -> Mapping[Any, Any]:
    """The flow itself, or one of a version before 0.11 as 0.11 would have it; `number` makes its id.

    Raises KeyError or another error of access when the parts of an old flow are not there.
    """
    version = flow.get(b"version")
    if not isinstance(version, list) or not (0, 1) <= tuple(version[:2]) < _FIRST_KNOWN:
        return flow
    request, response = flow[b"request"], flow[b"response"]
    client = request.get(b"client_conn") or {}
    secure = request[b"scheme"] == b"https"
    return {
        b"version": list(_FIRST_KNOWN),
        b"type": b"http",
        b"id": b"before-0.11-%d" % number,
        b"intercepted": False,
        b"error": flow[b"error"],
        b"client_conn": {
            b"address": _address(client.get(b"address") or [b"", 0]),
            b"clientcert": None,
            b"ssl_established": secure,
            b"timestamp_start": request[b"timestamp_start"],
            b"timestamp_end": None,
            b"timestamp_ssl_setup": request.get(b"ssl_setup_timestamp"),
        },
        b"server_conn": {
            b"address": _address([request[b"host"], request[b"port"]]),
            b"source_address": _address([b"", 0]),
            b"cert": None,
            b"sni": request[b"host"] if secure else None,
            b"ssl_established": secure,
            b"state": [],
            b"timestamp_start": request.get(b"tcp_setup_timestamp"),
            b"timestamp_end": None,
            b"timestamp_tcp_setup": request.get(b"tcp_setup_timestamp"),
            b"timestamp_ssl_setup": request.get(b"ssl_setup_timestamp"),
        },
        b"request": {
            **_kept(request, b"content", b"headers", b"host", b"httpversion", b"method", b"path", b"port"),
            **_kept(request, b"scheme", b"timestamp_start", b"timestamp_end"),
            b"form_in": b"relative",
            b"form_out": b"relative",
            b"is_replay": False,
        },
        b"response": response
        and _kept(
            response,
            *(b"code", b"content", b"headers", b"httpversion", b"msg", b"timestamp_start", b"timestamp_end"),
        ),
    }


def _address(pair: list[Any]) -> dict[bytes, Any]:
    return {b"address": pair, b"use_ipv6": False}


def _kept(part: Mapping[bytes, Any], *names: bytes) -> dict[bytes, Any]:
    return {name: part[name] for name in names}
