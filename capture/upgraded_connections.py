"""What passes after an answer of 101: mitmproxy's hooks of WebSockets and raw connections, for `addon`.

In `peaktape capture` the bytes of an upgraded connection pass raw, and a copy of them is read here. In a
mitmproxy of somebody's own, WebSockets are read by mitmproxy, which announces their messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mitmproxy import connection, http, tcp

from capture.exchange import Exchange
from capture.failures import where_it_failed
from capture.http1_layers import hung_up
from capture.trace_format import CLIENT_ABORTED, COMPLETE, SERVER_ERROR

logger = logging.getLogger(__name__)

CUT_SHORT = "closed without a close frame"


class UpgradedConnections:
    """Feeds the exchanges of upgraded connections, and tells `over` (with a flow's id) when one is closed.

    `read_number` tells pieces of one network read from those of another, `event_ns` when a piece came.
    """

    name = "peaktape_upgraded"

    def __init__(
        self,
        zero_ns: int,
        read_number: Callable[[], int],
        event_ns: Callable[[], int],
        over: Callable[[str], None],
    ) -> None:
        self._zero_ns = zero_ns
        self._read_number = read_number
        self._event_ns = event_ns
        self._over = over
        self._live: dict[str, tuple[str, Exchange]] = {}
        self._unknown: set[str] = set()

    def begin(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """The server agreed to change the protocol of the flow's connection."""
        protocol = flow.response.headers.get("upgrade", "") if flow.response else ""
        exchange.upgrade(websocket=protocol.lower() == "websocket")
        self._live[flow.client_conn.id] = flow.id, exchange

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        """Say once per server that something other than HTTP passes, unrecorded."""
        place = str(flow.server_conn.address)
        if flow.client_conn.id not in self._live and place not in self._unknown and len(self._unknown) < 100:
            self._unknown.add(place)
            logger.warning("peaktape: a connection to %s is no HTTP: passed on, not recorded", place)

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        now_ns = self._event_ns() - self._zero_ns
        message = flow.messages[-1]
        flow.messages.clear()  # mitmproxy would keep them all
        live = self._live.get(flow.client_conn.id)
        if live is not None:
            try:
                live[1].passed(message.content, now_ns, self._read_number(), from_client=message.from_client)
            except Exception as error:  # no traceback, it could show what is secret
                said = "peaktape: an upgraded connection is recorded no further (%s)"
                logger.error(said, where_it_failed(error))
                self._end(flow.client_conn, "failure of the recording")

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        self._end(flow.client_conn, server=flow.server_conn)

    def tcp_error(self, flow: tcp.TCPFlow) -> None:
        self._end(flow.client_conn, flow.error.msg if flow.error else "")

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        now_ns = self._event_ns() - self._zero_ns
        live = self._live.get(flow.client_conn.id)
        if live is not None and flow.websocket is not None:
            message = flow.websocket.messages[-1]
            live[1].said(message.content, now_ns, from_client=message.from_client, text=message.is_text)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        code = flow.websocket.close_code if flow.websocket else None
        self._end(flow.client_conn, "" if code in (1000, 1001, 1005) else f"websocket closed with {code}")

    def client_disconnected(self, client: connection.Client) -> None:
        self._end(client)

    def _end(
        self, client: connection.Client, complaint: str = "", server: connection.Server | None = None
    ) -> None:
        flow_id, exchange = self._live.pop(client.id, (None, None))
        if flow_id is None or exchange is None:
            return
        outcome = COMPLETE
        if server is not None and exchange.reads_messages and not exchange.said_goodbye:
            complaint = CUT_SHORT
            if hung_up(client):
                outcome = CLIENT_ABORTED
            elif hung_up(server):
                outcome = SERVER_ERROR
        exchange.ended(self._event_ns() - self._zero_ns, complaint, outcome)
        self._over(flow_id)
