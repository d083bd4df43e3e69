"""Whose failure it was that an exchange broke. Values in, values out: no proxy is asked."""

from __future__ import annotations

from typing import NamedTuple

from capture.trace_format import CLIENT_ABORTED, PROXY_ERROR, SERVER_ERROR


class Failure(NamedTuple):
    """Whose failure an error was, and the status that the proxy itself answered with, if it did."""

    outcome: str
    status: int | None


def blame(message: str, *, request_is_whole: bool, client_left: bool) -> Failure:
    """Who broke an exchange: by mitmproxy's message, whether the request was whole, and who had left.

    A server that can't be reached is a `server_error`, and the client gets a 502 from the proxy; one that
    goes away before it has answered is one too, and the client's connection ends like the server's did. Only
    what the proxy itself refuses or kills is a `proxy_error`.
    """
    text = message.lower()
    if text.startswith("server closed") and not client_left:
        return Failure(SERVER_ERROR, None if "without an answer" in text else 502)
    if text == "connection killed.":
        return Failure(PROXY_ERROR, None)
    if "body_size_limit" in text:
        return Failure(PROXY_ERROR, 502 if text.startswith("response") else 413)
    if text.startswith("client disconnected"):
        return Failure(CLIENT_ABORTED, None)
    if request_is_whole:
        return Failure(CLIENT_ABORTED, None) if client_left else Failure(SERVER_ERROR, 502)
    broken_off = "closed" in text or "reset by" in text
    return Failure(CLIENT_ABORTED, None) if broken_off else Failure(PROXY_ERROR, 400)
