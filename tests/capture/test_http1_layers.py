"""What `http1_layers` adds to mitmproxy's HTTP/1, as scripts of events: no sockets, no clock."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy import options
from mitmproxy.http import Request
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import _events
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.test.tflow import tclient_conn, tserver_conn

from capture.http1_layers import HEAD_LIMIT_BYTES, WAITING_LIMIT_BYTES, Http1Client, Http1Server


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


class Server:
    """A connection to a server that has been asked for something, without a socket."""

    def __init__(self, http_version: str = "HTTP/1.1") -> None:
        context = Context(tclient_conn(), options.Options())
        context.client.alpn = None
        self.connection = context.server = tserver_conn()
        self.connection.alpn = None
        self.layer = Http1Client(context)
        self.does(events.Start())
        asked = Request.make("GET", "http://h/")
        asked.http_version = http_version
        self.does(_events.RequestHeaders(1, asked, end_stream=True))
        self.does(_events.RequestEndOfMessage(1))

    def does(self, event: events.Event) -> list[Any]:
        return list(self.layer.handle_event(event))

    def answers(self, *pieces: bytes) -> tuple[bytes, list[_events.HttpEvent]]:
        """What goes straight to the client, and what the stream is told."""
        done = [one for piece in pieces for one in self.does(events.DataReceived(self.connection, piece))]
        sent = [one for one in done if isinstance(one, commands.SendData)]
        assert all(one.connection is self.layer.context.client for one in sent)
        return b"".join(one.data for one in sent), [one.event for one in done if isinstance(one, ReceiveHttp)]


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


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("interim", [HINTS, CONTINUE, b"HTTP/1.1 102 \r\n\r\n" + HINTS])
def test_interim_answers_reach_the_client_and_the_answer_comes_after(interim: bytes) -> None:
    whole = interim + ANSWER
    for cut in range(len(whole)):
        sent, told = Server().answers(whole[:cut], whole[cut:])
        assert sent == interim, cut
        head, *body, end = told
        assert isinstance(head, _events.ResponseHeaders)
        assert head.response.status_code == 200
        assert b"".join(piece.data for piece in body if isinstance(piece, _events.ResponseData)) == b"hi"
        assert isinstance(end, _events.ResponseEndOfMessage)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/2.0"])
def test_a_client_of_another_version_gets_the_answer_alone(version: str) -> None:
    sent, (head, *_) = Server(version).answers(HINTS + ANSWER)
    assert sent == b""
    assert isinstance(head, _events.ResponseHeaders)
    assert head.response.status_code == 200


def test_a_length_beside_chunks_is_void() -> None:
    """Servers that hand on another one's headers answer so, and every client reads it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, (told, *_) = Server().answers(head + b"3\r\nabc\r\n0\r\n\r\n")
    assert isinstance(told, _events.ResponseHeaders)
    assert told.response.headers.fields == ((b"Transfer-Encoding", b"chunked"),)


def test_empty_lines_before_a_request_are_passed_over() -> None:
    whole = b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"
    for cut in range(len(whole)):
        client = Client()
        done = client.sends(whole[:cut]) + client.sends(whole[cut:])
        heads = [one.event for one in done if isinstance(one, ReceiveHttp)]
        assert isinstance(heads[0], _events.RequestHeaders), cut
