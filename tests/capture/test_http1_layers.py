"""What `http1_layers` adds to mitmproxy's HTTP/1, as scripts of events: no sockets, no clock."""

from __future__ import annotations

from typing import Any

from mitmproxy import options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.test.tflow import tclient_conn

from capture.http1_layers import HEAD_LIMIT_BYTES, WAITING_LIMIT_BYTES, Http1Server


class Client:
    """A client's connection without a socket: `sends` gives what the proxy does about it."""

    def __init__(self) -> None:
        self.connection = tclient_conn()
        self.connection.alpn = None
        self.layer = Http1Server(Context(self.connection, options.Options()))
        self.does(events.Start())

    def does(self, event: events.Event) -> list[Any]:
        return list(self.layer.handle_event(event))

    def sends(self, data: bytes) -> list[Any]:
        return self.does(events.DataReceived(self.connection, data))


def refused_with(status: bytes, done: list[Any]) -> bool:
    send, close = done[:2]
    closed = isinstance(close, commands.CloseConnection)
    return isinstance(send, commands.SendData) and closed and b" %s " % status in send.data[:14]


def test_a_head_that_takes_too_long_is_refused() -> None:
    client = Client()
    (alarm,) = client.sends(b"GET / HT")
    assert isinstance(alarm, commands.RequestWakeup)
    assert client.sends(b"T") == [], "one alarm is enough"
    assert refused_with(b"408", client.does(events.Wakeup(alarm)))


def test_a_head_that_came_in_time_is_not_refused_later() -> None:
    client = Client()
    (alarm,) = client.sends(b"GET / HT")
    got = client.sends(b"TP/1.1\r\nHost: h\r\n\r\n")
    assert any(isinstance(one, ReceiveHttp) for one in got)
    assert client.does(events.Wakeup(alarm)) == []


def test_a_head_without_an_end_is_refused() -> None:
    client = Client()
    client.sends(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(HEAD_LIMIT_BYTES >> 16):
        done = client.sends(b"y" * (1 << 16))
    assert refused_with(b"431", done)
    assert client.sends(b"y" * (1 << 16)) == []


def test_a_line_without_an_end_between_chunks_ends_the_request() -> None:
    client = Client()
    client.sends(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    for _ in range(HEAD_LIMIT_BYTES >> 16):
        done = client.sends(b"y" * (1 << 16))
    assert refused_with(b"400", done)
    assert isinstance(done[2].event, _events.RequestProtocolError)


def test_what_is_sent_ahead_of_an_answer_is_bounded() -> None:
    client = Client()
    client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    done: list[Any] = []
    for _ in range((WAITING_LIMIT_BYTES >> 20) + 1):
        done += client.sends(b"z" * (1 << 20))
    assert refused_with(b"400", done)
