"""The mitmproxy addon: turns mitmproxy's hooks into the events of exchanges, and never changes a byte.

Run by `peaktape capture`, or by people who run mitmproxy themselves:

    mitmdump -s capture/addon.py --set peaktape_out=prod.parquet --set connection_strategy=lazy

Fail open: whatever goes wrong in here costs a row, which is counted, and never the client's bytes. Each
hook does as little as it can; reading, redacting and writing are the recorder's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mitmproxy import ctx, http, tls
from mitmproxy.addonmanager import Loader

try:
    import capture  # noqa: F401
except ImportError:  # `mitmdump -s` of a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from capture.body_condition import Condition
from capture.choice import BY_FILTER
from capture.copied_body import CopyBudget
from capture.encryption_keys import Keys
from capture.exchange import Exchange
from capture.failures import BadInput, where_it_failed
from capture.flow_choice import UNDECIDED, FlowChoice
from capture.flow_parts import client_left, head_of, is_upload
from capture.handover import Handover
from capture.privacy.policy_file import policy_of
from capture.recorder import Recorder, RecorderOptions
from capture.recording import Output, conclude
from capture.upgraded_connections import UpgradedConnections

logger = logging.getLogger(__name__)

_SEEN = "peaktape.request_id"
_ANNOUNCE_S = 0.05


class ReadNumber:
    """Numbers the turns of the event loop in which something was read: pieces of one turn came in together.

    Between two network reads of one connection the loop turns, so pieces with the same number left the
    socket at one instant, however many HTTP chunks they are.
    """

    def __init__(self) -> None:
        self._number = 0
        self._armed = False

    def now(self) -> int:
        """The number of this turn of the running loop."""
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._advance)
        return self._number

    def _advance(self) -> None:
        self._number += 1
        self._armed = False


class CaptureAddon:
    """Opens an exchange for each request and hands it to `recorder` once, when it is over.

    A request that is not chosen passes as it would without us, and nothing of it is copied from then on.
    While the choice is not made, nothing is handed over. `read_number` numbers network reads; without it,
    turns of the event loop stand for them. `event_ns` tells when what a hook is about came.
    """

    name = "peaktape"

    def __init__(
        self,
        recorder: Handover,
        read_number: Callable[[], int] | None = None,
        event_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._recorder = recorder
        self._zero_ns = recorder.zero_ns
        self._live: dict[str, Exchange] = {}
        self._unannounced: dict[str, Exchange] = {}
        self._unannounced_before: dict[str, Exchange] = {}
        self._announcing = False
        self._event_ns = event_ns
        self._read_number = read_number or ReadNumber().now
        self._capture_id = secrets.token_hex(4)
        self._number = 0
        self._ended = False
        self._untrusting: set[str] = set()
        choice = recorder.facts.options.choice
        self._choice = FlowChoice(choice)
        self._takes_all = self._choice.takes_all
        self._undecided: dict[str, http.HTTPFlow] = {}
        self._copies = CopyBudget(body_limit_bytes=choice.max_body_bytes)
        self._upgraded = UpgradedConnections(self._zero_ns, self._read_number, event_ns, self._over)
        self.addons = [self._upgraded]

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        try:
            if not self._ended:
                self._open(flow, self._event_ns() - self._zero_ns)
        except Exception as error:
            self._lose(flow.id, "_open", error)

    def request(self, flow: http.HTTPFlow) -> None:
        flow_id = flow.id
        exchange = self._live.get(flow_id)
        if exchange is None:
            return
        try:
            now_ns, data = self._event_ns() - self._zero_ns, flow.request.data
            exchange.whole(data.content, now_ns, None if data.trailers is None else data.trailers.fields)
            if self._unannounced.pop(flow_id, None) is None and self._unannounced_before:
                self._unannounced_before.pop(flow_id, None)
            if not self._undecided or flow_id not in self._undecided:
                self._recorder.asked(exchange)
        except Exception as error:
            self._lose(flow_id, "request", error)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        try:
            if not self._ended:
                self._answered(flow, self._event_ns() - self._zero_ns)
        except Exception as error:
            self._lose(flow.id, "_answered", error)

    def response(self, flow: http.HTTPFlow) -> None:
        exchange = self._live.get(flow.id)
        if exchange is None or flow.response is None:
            return
        try:
            now_ns, data = self._event_ns() - self._zero_ns, flow.response.data
            if data.status_code == 101:
                self._upgraded.begin(flow, exchange)
                return
            if data.content and not exchange.response_bytes:  # answered by another addon
                exchange.take(data.content, now_ns, self._read_number())
            exchange.finish(now_ns, None if data.trailers is None else data.trailers.fields)
            self._over(flow.id)
        except Exception as error:
            self._lose(flow.id, "response", error)

    def error(self, flow: http.HTTPFlow) -> None:
        try:
            if not self._ended:
                self._fail(flow, self._event_ns() - self._zero_ns)
        except Exception as error:
            self._lose(flow.id, "_fail", error)

    def tls_failed_client(self, data: tls.TlsData) -> None:
        """Say once per server name that a client doesn't trust us: such traffic can't be captured."""
        name = data.conn.sni or "an unnamed server"
        if (data.conn.error or "").startswith("Cannot parse"):
            return  # no TLS at all
        if name not in self._untrusting and len(self._untrusting) < 100:
            self._untrusting.add(name)
            certificate = f"{ctx.options.confdir}/mitmproxy-ca-cert.pem"
            logger.warning(
                "peaktape: a client refused the certificate for %s; let it trust %s", name, certificate
            )

    def done(self) -> None:
        """The proxy shuts down: what is under way becomes rows; errors that follow are its own doing."""
        self._ended = True
        for flow_id, exchange in list(self._live.items()):
            exchange.cut_off()
            self._over(flow_id)

    def _lose(self, flow_id: str, place: str, error: Exception) -> None:
        """Give up on one exchange, and only on its recording; no traceback, it could show what is secret."""
        logger.error("peaktape: a request is not recorded: failure in %s (%s)", place, where_it_failed(error))
        try:
            exchange = self._live.pop(flow_id, None)
            self._undecided.pop(flow_id, None)
            if exchange is not None or place == "_open":
                self._recorder.lost("addon_error", exchange.request_id if exchange else "")
        except Exception as failure:
            logger.error("peaktape: the loss can't be counted (%s)", where_it_failed(failure))

    def _open(self, flow: http.HTTPFlow, now_ns: int) -> None:
        self._number += 1
        flow.metadata[_SEEN] = request_id = f"{self._capture_id}-{self._number:08d}"
        refusal = self._recorder.opened(now_ns)
        if not refusal and not self._takes_all:
            refusal = self._choice.asked(flow)
        if refusal and refusal != UNDECIDED:
            self._recorder.not_chosen(refusal)
            flow.request.stream = flow.request.stream or is_upload(flow.request)
            return
        request, flow_id = flow.request, flow.id
        exchange = Exchange(request_id, head_of(request), now_ns, None, flow.client_conn.id, self._copies)
        self._live[flow_id] = exchange
        if refusal:
            self._undecided[flow_id] = flow
        else:
            self._unannounced[flow_id] = exchange
            if not self._announcing:
                self._announce_later()
        if request.stream or is_upload(request):
            exchange.streamed = True
            request.stream = self._passing_on(flow_id, exchange, exchange.ask, request.stream)

    def _announce_later(self) -> None:
        """A request whose body takes its time is handed over by its head: it is a row whatever happens."""
        self._announcing = True
        asyncio.get_running_loop().call_later(_ANNOUNCE_S, self._announce)

    def _announce(self) -> None:
        # Those that have waited for a whole period; a timer for each would cost more than handing over.
        late, self._unannounced_before, self._unannounced = self._unannounced_before, self._unannounced, {}
        self._announcing = bool(self._unannounced_before)
        if self._announcing:
            asyncio.get_running_loop().call_later(_ANNOUNCE_S, self._announce)
        for flow_id, exchange in late.items():
            if flow_id in self._live and not self._ended:
                try:
                    self._recorder.asked(exchange)
                except Exception as error:
                    self._lose(flow_id, "_announce", error)

    def _answered(self, flow: http.HTTPFlow, now_ns: int) -> None:
        exchange = self._live.get(flow.id)
        undecided = flow.id in self._undecided
        if flow.response is not None and (
            exchange is None or (undecided and not self._still_chosen(flow, exchange))
        ):
            flow.response.stream = flow.response.stream or True
            return
        if exchange is None or flow.response is None:
            return
        data = flow.response.data
        exchange.answered(data.status_code, data.headers.fields, now_ns)
        flow.response.stream = self._passing_on(flow.id, exchange, exchange.take, flow.response.stream)

    def _still_chosen(self, flow: http.HTTPFlow, exchange: Exchange) -> bool:
        """Whether an undecided exchange is recorded, or may be, now that its answer's head is known."""
        refusal = self._choice.answered(flow)
        if refusal == UNDECIDED:
            return True
        del self._undecided[flow.id]
        if refusal:
            exchange.cut_off()
            del self._live[flow.id]
            self._recorder.not_chosen(refusal)
            return False
        self._recorder.asked(exchange)
        return True

    def _passing_on(
        self, flow_id: str, exchange: Exchange, take: Callable[[bytes, int, int], None], other: Any
    ) -> Callable[[bytes], bytes | Iterable[bytes]]:
        """The stream of a body: each piece goes on its way whatever becomes of the copy that `take` is given.

        `other` is what another addon put there; it keeps its say over the bytes.
        """
        zero_ns, read_number, event_ns = self._zero_ns, self._read_number, self._event_ns

        def keep(piece: bytes) -> bytes:
            if piece:
                try:
                    take(piece, event_ns() - zero_ns, read_number())
                except Exception as error:
                    self._lose(flow_id, "keep", error)
            return piece

        if not callable(other):
            return keep

        def keep_and_change(piece: bytes) -> bytes | Iterable[bytes]:
            changed: bytes | Iterable[bytes] = other(keep(piece))
            return changed

        return keep_and_change

    def _over(self, flow_id: str) -> None:
        """An exchange is closed: it is the recorder's now."""
        exchange = self._live.pop(flow_id, None)
        undecided = self._undecided.pop(flow_id, None) if self._undecided else None
        if exchange is None:
            return
        condition: Condition = True if undecided is None else self._choice.over(undecided)
        if condition is False:
            self._recorder.not_chosen(BY_FILTER)
        else:
            self._recorder.closed(exchange, condition)

    def _fail(self, flow: http.HTTPFlow, now_ns: int) -> None:
        if flow.id not in self._live and _SEEN not in flow.metadata:
            self._open(flow, now_ns)  # mitmproxy refused it before its headers were announced
        exchange = self._live.get(flow.id)
        if exchange is not None:
            message = flow.error.msg if flow.error else "unknown error"
            exchange.fail(message, now_ns, client_left=client_left(flow, message))
            self._over(flow.id)


class StandaloneAddon:
    """The addon for people who run mitmproxy themselves: options in, a trace out as by `peaktape capture`."""

    name = "peaktape_standalone"

    def __init__(self) -> None:
        self.addons: list[CaptureAddon] = []
        self._recording: tuple[Recorder, Output] | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option("peaktape_out", str, "", "NAME.parquet for one file, else a segment folder.")
        loader.add_option("peaktape_overwrite", bool, False, "Replace an existing output.")
        loader.add_option("peaktape_segment_mb", int, 64, "Close a segment at this size in memory.")
        loader.add_option("peaktape_segment_s", int, 10, "Close a segment at this age in seconds.")
        loader.add_option("peaktape_response_bodies", bool, True, "Keep response bodies in the trace.")
        loader.add_option("peaktape_redact", str, "", "Further header and parameter names, comma-separated.")
        loader.add_option("peaktape_policy", str, "", "Redaction policy, a YAML file.")
        loader.add_option("peaktape_key", str, "", "Encrypt: env:NAME, file:PATH or kms:MODULE:CLASS.")

    def configure(self, updated: set[str]) -> None:
        """Start recording once the output is known; later changes of it are refused."""
        if "peaktape_out" not in updated or not ctx.options.peaktape_out:
            return
        if self._recording is not None:
            logger.error("peaktape: peaktape_out can't change while a capture runs")
            return
        output = Output.named(Path(ctx.options.peaktape_out))
        names = [name.strip() for name in ctx.options.peaktape_redact.split(",")]
        file = ctx.options.peaktape_policy
        try:
            keys = Keys.of(ctx.options.peaktape_key) if ctx.options.peaktape_key else None
            redaction = policy_of(Path(file) if file else None, tuple(name for name in names if name))
            if output.prepare(keys, overwrite=ctx.options.peaktape_overwrite) is None:
                output.clear()
            options = RecorderOptions(
                segment_bytes=ctx.options.peaktape_segment_mb << 20,
                segment_s=float(ctx.options.peaktape_segment_s),
                response_bodies=ctx.options.peaktape_response_bodies,
                redaction=redaction,
                keys=keys,
            )
            recorder = Recorder(output.folder, options, source="mitmproxy addon")
        except (BadInput, OSError) as error:
            logger.error("peaktape: %s", _as_options(str(error)))
            return
        recorder.start()
        self._recording = recorder, output
        self.addons.append(CaptureAddon(recorder))

    def running(self) -> None:
        if not ctx.options.peaktape_out:
            logger.error("peaktape: nothing is recorded: no output; add --set peaktape_out=NAME.parquet")
        elif ctx.options.connection_strategy != "lazy":
            logger.warning(
                "peaktape: requests while the server is down stay unseen; add --set connection_strategy=lazy"
            )

    def done(self) -> None:
        for addon in self.addons:
            addon.done()
        if self._recording is None:
            return
        recorded = conclude(*self._recording)
        self._recording = None
        logger.info("peaktape: %s", recorded.counts.line())
        logger.info("peaktape: trace: %s", recorded.trace)
        if recorded.trouble:
            logger.error("peaktape: %s", recorded.trouble)


def _as_options(text: str) -> str:
    """A failure's way out in the words of `mitmdump --set`."""
    text = text.replace("--overwrite", "--set peaktape_overwrite=true")
    return text.replace("--key", "--set peaktape_key")


if __name__.startswith("__mitmproxy_script__"):
    addons = [StandaloneAddon()]
