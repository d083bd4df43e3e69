"""The verb `capture`: options in, a capture proxy running, notes and counters on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

import replay.cli.capture_flags as flags
from capture.failures import BadInput, PeaktapeError
from replay.cli.capture_notes import JsonNotes, Notes, TextNotes, log_as_json
from replay.cli.capture_output import Destination, destination_of
from replay.cli.key_option import Key, keys_of
from replay.cli.option_groups import grouped

if TYPE_CHECKING:
    from capture.metrics_server import MetricsServer
    from capture.proxy import ProxyOptions
    from capture.recorder import Recorder, RecorderOptions
    from capture.time_window import TimeWindow


@grouped
def capture(
    output: flags.OutputName,
    *,
    upstream: flags.Upstream = None,
    listen: flags.Listen = "127.0.0.1:8080",
    mode: flags.Mode = None,
    overwrite: flags.Overwrite = False,
    append: flags.Append = False,
    response_bodies: flags.ResponseBodies = "keep",
    redact: flags.Redact = None,
    policy: flags.Policy = None,
    key: Key = None,
    segment_mb: flags.SegmentMb = 64,
    segment_s: flags.SegmentS = 10.0,
    rewrite_host: flags.RewriteHost = False,
    upstream_ca: flags.UpstreamCa = None,
    certificates: flags.Certificates = None,
    processes: flags.Processes = 1,
    choosing: flags.Choosing,
    keeping: flags.Keeping,
    metrics: flags.Metrics = None,
    log_format: flags.LogFormat = "text",
    parent_pid: flags.ParentPid = None,
) -> None:
    """Record inference traffic through a proxy, byte for byte, into a trace.

    Streams pass chunk by chunk and each chunk is stamped. Credentials and
    secrets are never written, also not those in bodies: names of headers and
    parameters stay, their values don't. --policy leaves out more: JSON paths,
    personal data, prompts and completions.

    Ctrl-C or SIGTERM ends the capture. Everything that was seen is on disk
    then, requests under way as such. SIGUSR1 resumes and SIGUSR2 pauses the
    recording; a request is a row when its head came in while it was on.

    \b
    Examples:
      peaktape capture --upstream http://127.0.0.1:8000 --listen 127.0.0.1:8080 -o prod.parquet
      peaktape capture --upstream https://api.example.com --rewrite-host -o prod.parquet
      peaktape capture --upstream http://127.0.0.1:8000 -o segments/ --segment-s 60
      peaktape capture --upstream http://127.0.0.1:8000 -o prod.parquet --policy samples/redaction.yml
      peaktape capture --upstream http://127.0.0.1:8000 -o prod.parquet --processes 4
      peaktape capture --upstream http://127.0.0.1:8000 -o api.parquet --filter '~u /v1/' --sample 1%
      peaktape capture --upstream http://127.0.0.1:8000 -o peak.parquet --from 09:00 --to 10:30
      peaktape capture --upstream http://127.0.0.1:8000 -o prod/ --metrics 127.0.0.1:9464 --log-format json
      peaktape capture --upstream http://127.0.0.1:8000 -o secret.parquet --key file:trace.key
      peaktape capture --upstream http://127.0.0.1:8000 -o prod/ --max-size 50GB --max-age 7d
      peaktape capture --upstream http://127.0.0.1:8000 -o s3://traces/prod/ --outbox /var/lib/peaktape
      peaktape capture --mode regular --listen 127.0.0.1:8080 -o prod.parquet
    """
    from capture.switch_signals import ignore_switch_signals

    ignore_switch_signals()
    if log_format == "json":
        log_as_json()
    notes: Notes = JsonNotes() if log_format == "json" else TextNotes()
    with _failures_told(notes):
        from capture.addresses import parse_listen, parse_upstream, refuse_itself
        from capture.privacy.policy_file import policy_of
        from capture.proxy import ProxyOptions, refuse_no_authority
        from capture.recorder import RecorderOptions

        _check_mode(mode, upstream)
        host, port = parse_listen(listen)
        url, authority = parse_upstream(upstream) if upstream else (None, None)
        if url is not None:
            refuse_itself(url, host, port)
        refuse_no_authority(upstream_ca)
        chosen = ProxyOptions(
            listen_host=host,
            listen_port=port,
            upstream=url,
            keep_host_header=not rewrite_host,
            upstream_ca=upstream_ca,
            certificates=certificates,
            parent_pid=parent_pid,
            shared_port=processes > 1,
        )
        options = RecorderOptions(
            segment_bytes=segment_mb << 20,
            segment_s=segment_s,
            response_bodies=response_bodies == "keep",
            redaction=policy_of(policy, redact or ()),
            choice=choosing.choice(),
            keys=keys_of(key),
        )
        window = choosing.window()
        goes_to = destination_of(output, keeping)
        with contextlib.ExitStack() as stack:
            watched = None if metrics is None else stack.enter_context(_listening(metrics))
            run = _Run(
                chosen,
                goes_to.bounded(options),
                output,
                goes_to,
                (authority,) if authority else (),
                window,
                watched,
                processes,
                notes,
            )
            run.begin(overwrite=overwrite, append=append)


@contextlib.contextmanager
def _failures_told(notes: Notes) -> Iterator[None]:
    """What ends the capture is told in the format of all its notes."""
    try:
        yield
    except PeaktapeError as failure:
        if isinstance(notes, JsonNotes):
            notes.fail(str(failure))
            raise typer.Exit(failure.exit_code) from failure
        raise


@contextlib.contextmanager
def _listening(address: str) -> Iterator[MetricsServer]:
    from capture.addresses import parse_listen
    from capture.health import Pulse
    from capture.metrics_server import MetricsServer

    server = MetricsServer(*parse_listen(address, "--metrics"), Pulse())
    try:
        yield server
    finally:
        server.server_close()


def _check_mode(mode: str | None, upstream: str | None) -> None:
    if mode == "regular" and upstream:
        raise BadInput("--mode regular: takes no --upstream; leave one of them out")
    if mode != "regular" and not upstream:
        raise BadInput("--upstream: missing; name the server behind the proxy, or choose --mode regular")


@dataclasses.dataclass(frozen=True)
class _Run:
    """One capture from what was asked for to what came of it."""

    chosen: ProxyOptions
    options: RecorderOptions
    name: str
    goes_to: Destination
    upstreams: tuple[str, ...]
    window: TimeWindow
    watched: MetricsServer | None
    processes: int
    notes: Notes

    def begin(self, *, overwrite: bool, append: bool) -> None:
        """Record until the end; raises `BadInput` when it can't begin or leaves no trace at the output."""
        from capture.recording import record

        with self.goes_to.opened(self.notes, self.options.keys, overwrite=overwrite, append=append) as place:

            def clear() -> None:
                if not place.goes_on:
                    place.output.clear()

            recorded = record(
                lambda recorder: self._serve(recorder, clear),
                place.output,
                self.options,
                source=f"capture {self.chosen.upstream or 'regular proxy'}",
                upstreams=self.upstreams,
                show=self.notes.show,
                show_every_s=self.notes.show_every_s,
                sending=place.sending,
            )
            self.notes.conclude(recorded.counts)
        if recorded.trouble:
            raise BadInput(recorded.trouble)
        trace = self.goes_to.trace(recorded.trace)
        self.notes.say("trace", f"trace: {trace}", trace=trace)

    def _serve(self, recorder: Recorder, clear: Callable[[], None]) -> None:
        from capture.proxy import run_proxy
        from capture.service_notice import Listener, ServiceNotice
        from capture.shards import Shards
        from capture.switch_signals import switched_by_signals

        shards = Shards(self.processes - 1, recorder.facts, self.chosen)
        notice = ServiceNotice(Listener.of(), recorder.has_answered, lambda: recorder.counts().line())
        self._set_window(recorder, recorder.facts.wall_zero_ns)

        def ready(address: str) -> None:
            clear()
            recorder.start()
            if self.processes > 1:
                shards.start(int(address.rpartition(":")[2]))
            self._end_in_time(self._set_window(recorder, time.time_ns()))
            if self.watched is not None:
                self.watched.pulse.begin()
            self._tell(address)
            notice.begin()

        with contextlib.ExitStack() as stack:
            stack.callback(shards.stop)
            stack.enter_context(switched_by_signals(recorder))
            if self.watched is not None:
                stack.enter_context(self.watched.serving(recorder.counts))
            stack.callback(notice.stopping)
            run_proxy(self.chosen, recorder, ready)

    def _set_window(self, recorder: Recorder, begun_ns: int) -> int | None:
        """Limit what is recorded to the window of a capture that began then; when it ends, ns since 1970."""
        zero_ns, until_ns = recorder.facts.wall_zero_ns, self.window.until(begun_ns)
        from_ns = 0 if self.window.from_ns is None else max(0, self.window.from_ns - zero_ns)
        recorder.switch.limit(from_ns, None if until_ns is None else until_ns - zero_ns)
        return until_ns

    def _end_in_time(self, until_ns: int | None) -> None:
        """With --for the capture ends by itself, as on SIGTERM."""
        if self.window.for_ns is not None and until_ns is not None:
            left_s = max(0.0, (until_ns - time.time_ns()) / 1e9)
            asyncio.get_running_loop().call_later(left_s, signal.raise_signal, signal.SIGTERM)

    def _tell(self, address: str) -> None:
        goes_to = f"→ {self.chosen.upstream}" if self.chosen.upstream else "as a regular proxy"
        ends = "Ctrl-C ends" if self.window.for_ns is None else "ends by itself"
        text = f"capturing {goes_to} into {self.name}; {ends}"
        self.notes.say("capturing", text, upstream=self.chosen.upstream, output=self.name)
        choice = self.options.choice
        if choice.described():
            named = ", ".join(f"{name} {value}" for name, value in choice.described().items())
            self.notes.say("choosing", f"recording only: {named}", **choice.described())
        if choice.paused:
            self.notes.say("paused", f"recording is paused; begin with: kill -USR1 {os.getpid()}")
        if self.watched is not None:
            self.notes.say("watched", f"metrics on {self.watched.url}/metrics", url=self.watched.url)
        self.notes.say("listening", f"listening on {address}", address=address)
