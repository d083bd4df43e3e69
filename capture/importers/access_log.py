"""Access logs of nginx, Apache and Envoy, as text or JSON lines → traces of requests without bodies.

A log line is written when a request is over, and stamps its start (Apache, Envoy) or its end (nginx). Lines
are read once and sorted by arrival in flat memory. What a line means is in `log_format` and `log_fields`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from capture.failures import BadInput
from capture.importers.captured_rows import CapturedRows, Watch, unwatched
from capture.importers.clock import Clock, Rounded, chance_of, decided, unrounded, written_tick_ns
from capture.importers.log_fields import Entry, Unreadable, entry_of
from capture.importers.log_format import COMBINED, COMMON, ENVOY, LineFormat, line_format, pieces_of
from capture.importers.pending_trace import PendingTrace
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy

AUTO: Final = "auto"
NAMED: Final = {"common": COMMON, "combined": COMBINED, "envoy": ENVOY}
_FINEST_NS: Final = 1000
_SURVEYED: Final = 1000
_BODIES: Final = ("POST", "PUT", "PATCH")
_TAIL: Final = r"(?: (.*))?"
_KEYS: Final = {
    "start": ("start_time", "time_start", "request_start"),
    "end": ("msec", "time_local", "time_iso8601", "time_msec", "end_time"),
    "stamp": ("timestamp", "@timestamp", "time", "ts", "datetime", "date"),
    "request": ("request", "request_line"),
    "method": ("method", "request_method", "http_method", "verb"),
    "target": ("request_uri", "path", "uri", "url", "target", "request_path"),
    "query": ("args", "query_string", "query"),
    "protocol": ("protocol", "server_protocol", "http_version", "request_protocol"),
    "scheme": ("scheme", "x_forwarded_proto"),
    "host": ("authority", "http_host", "host", "server_name", "vhost", "domain"),
    "status": ("response_code", "status", "status_code", "response_status"),
    "body_bytes": ("bytes_sent", "body_bytes_sent", "response_bytes", "size"),
    "duration_s": ("request_time", "duration_s"),
    "duration_ms": ("duration", "duration_ms", "latency_ms", "response_time_ms", "elapsed_ms"),
    "duration_us": ("duration_us", "request_time_us", "time_us"),
    "first_byte_ms": ("response_duration",),
    "flags": ("response_flags",),
    "client": ("remote_addr", "client_ip", "remote_ip", "downstream_remote_address", "client"),
    "connection": ("connection", "connection_id"),
    "header:User-Agent": ("user_agent", "http_user_agent", "agent"),
    "header:Referer": ("referer", "http_referer", "referrer"),
    "header:X-Request-ID": ("request_id", "x_request_id"),
}
_OF_KEY: Final = {key: (field, rank) for field, keys in _KEYS.items() for rank, key in enumerate(keys)}

type Reader = Callable[[str], dict[str, str] | None]
"""Takes a line apart; None when the line isn't of the format."""


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """How a log is read. `format` is "auto", a name of `NAMED`, "json", or a server's format string."""

    format: str = AUTO
    rounded: Rounded = Rounded.KEEP
    seed: int = 0
    sessions_by_client: bool = False
    skip_broken: bool = False


@dataclasses.dataclass
class _Counts:
    broken: int = 0
    no_request: int = 0
    bodies: int = 0
    ends_unknown: int = 0
    unclear: int = 0


def open_access_log(
    path: Path,
    policy: RedactionPolicy,
    options: LogOptions = LogOptions(),
    *,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> PendingTrace:
    """Begin to import the log at `path`; reads it once, sorting through a spool in `folder`.

    Raises `BadInput` with line, found and wanted.
    """
    source, counts = SourceFile(path), _Counts()
    name, read, notes = _reader(path, options.format)
    entries = _entries(source, name, read, options, counts, watch)
    surveyed = list(itertools.islice(entries, _SURVEYED))
    tick_ns = written_tick_ns((entry.stamp_ns for _, entry in surveyed), _FINEST_NS)
    clock = decided(tick_ns if surveyed else _FINEST_NS, options.rounded, path, finest_ns=_FINEST_NS)
    rows = CapturedRows(policy, folder)
    for line, entry in _placed(itertools.chain(surveyed, entries), clock, options.seed):
        rows.add(entry.row(f"log-{line}"))
    for count, cause in ((counts.no_request, "line without an HTTP request"), (counts.broken, "broken line")):
        if count:
            rows.dropped[cause] = count
    told = (*notes, *_notes(counts, options))
    pending = rows.pending(path, "import:access-log", clock_tick_ns=_FINEST_NS, notes=told)
    return dataclasses.replace(pending, clock_tick_ns=clock.tick_ns, notes=(*pending.notes, *clock.notes))


def _entries(
    source: SourceFile, name: str, read: Reader, options: LogOptions, counts: _Counts, watch: Watch
) -> Iterator[tuple[int, Entry]]:
    key = options.seed.to_bytes(8, "big")
    with source, reading(source.path):
        for number, text in enumerate(source.text(errors="backslashreplace"), start=1):
            if number % 256 == 0:
                watch(source.fraction_read())
            if not text.strip():
                continue
            line = text.rstrip("\r\n")
            try:
                fields, entry = _entry(line, name, read)
            except Unreadable as trouble:
                if options.skip_broken:
                    counts.broken += 1
                    continue
                raise BadInput(f"{source.path}:{number}: {trouble}") from None
            if entry.columns is None:
                counts.no_request += 1
                continue
            _count(counts, fields, entry)
            if options.sessions_by_client and "client" in fields:
                digest = hashlib.blake2b(fields["client"].encode(), digest_size=8, key=key)
                entry.columns["session_id"] = f"client-{digest.hexdigest()}"
            yield number, entry


def _entry(line: str, name: str, read: Reader) -> tuple[dict[str, str], Entry]:
    fields = read(line)
    if fields is None:
        raise Unreadable(
            f"{line[:60]!r} found, a line of the format {name} wanted; give the server's own with --format, "
            "or leave such lines out with --skip-broken"
        )
    return fields, entry_of(fields)


def _count(counts: _Counts, fields: dict[str, str], entry: Entry) -> None:
    assert entry.columns is not None  # noqa: S101 - seen to by the caller
    counts.bodies += entry.columns["method"] in _BODIES
    counts.ends_unknown += entry.stamps_end and entry.duration_ns is None
    counts.unclear += "stamp" in fields and not entry.stamps_end


def _placed(
    entries: Iterator[tuple[int, Entry]] | itertools.chain[tuple[int, Entry]], clock: Clock, seed: int
) -> Iterator[tuple[int, Entry]]:
    if not clock.spread:
        return iter(entries)
    return unrounded(
        entries,
        clock.source_tick_ns,
        chance_of(seed),
        at=lambda item: item[1].stamp_ns,
        later=lambda item, by_ns: (item[0], item[1].later(by_ns)),
    )


def _reader(path: Path, wanted: str) -> tuple[str, Reader, tuple[str, ...]]:
    """The format's name, how to read its lines, and what was guessed about it."""
    if wanted == "json":
        return "JSON", json_fields, ()
    if wanted == AUTO:
        return _guessed(path)
    text = NAMED.get(wanted, wanted)
    if not re.search(r"[$%]", text):
        raise BadInput(
            f"--format: {wanted[:40]!r} found, auto, json, {', '.join(NAMED)} or a server's format "
            "string wanted"
        )
    named = wanted if wanted in NAMED else "given"
    return named, line_format(text).read, ()


def _guessed(path: Path) -> tuple[str, Reader, tuple[str, ...]]:
    with SourceFile(path) as source, reading(path):
        text = source.text(errors="backslashreplace")
        number, line = next(((n, t.rstrip("\r\n")) for n, t in enumerate(text, 1) if t.strip()), (1, ""))
    if line.lstrip().startswith("{"):
        return "JSON", json_fields, ()
    envoy = LineFormat(list(pieces_of(ENVOY)), tail=r"(?: .*)?")
    if envoy.read(line):
        return "envoy", envoy.read, ()
    for name in ("combined", "common"):
        pieces = [("stamp" if kind == "start" else kind, text) for kind, text in pieces_of(NAMED[name])]
        log = _Tailed(pieces)
        if log.read(line) is not None:
            return name, log.read, log.told(line)
    raise BadInput(
        f"{path}:{number}: {line[:60]!r} found, a line of a common, combined, Envoy or JSON log wanted; "
        "give the format string of the server's configuration with --format"
    )


class _Tailed:
    """A common or combined log with more at the end of its lines, in which nginx's times are looked for.

    $request_time and $msec have exactly three decimals, which nothing else that stands there is known to.
    """

    def __init__(self, pieces: list[tuple[str, str]]) -> None:
        self._format = LineFormat([*pieces], tail=_TAIL)
        self._format.fields.append("tail")

    def read(self, line: str) -> dict[str, str] | None:
        fields = self._format.read(line)
        tail = fields.pop("tail", "") if fields else ""
        if fields is None or not tail:
            return fields
        if found := re.search(r"(?<![\d.])(\d{10}\.\d{3})(?![\d.])", tail):
            fields.pop("stamp", None)
            fields["end"] = found[1]
        if found := re.search(r"(?<![\d.a-z])(?:rt=|request_time=)?\"?(\d{1,6}\.\d{3})(?![\d.])", tail):
            fields["duration_s"] = found[1]
        return fields

    def told(self, line: str) -> tuple[str, ...]:
        fields = self.read(line) or {}
        read = [
            f"{fields[field]} as {name}"
            for field, name in (("end", "$msec"), ("duration_s", "$request_time"))
            if field in fields
        ]
        if read:
            return (f"at the end of the lines {' and '.join(read)} was read; --format says it otherwise",)
        return ()


def json_fields(line: str) -> dict[str, str] | None:
    """The fields of a JSON log line by the names that Envoy, Istio and nginx users give them."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    best: dict[str, tuple[int, str]] = {}
    for key, value in found.items():
        field, rank = _OF_KEY.get(key.lower().replace("-", "_"), ("", 0))
        if not field or value in (None, "", "-") or isinstance(value, dict | list | bool):
            continue
        if field not in best or rank < best[field][0]:
            best[field] = (rank, value if isinstance(value, str) else repr(value))
    return {field: text for field, (_, text) in best.items()}


def _notes(counts: _Counts, options: LogOptions) -> Iterator[str]:
    yield "an access log holds no bodies, few headers and no chunk instants"
    if counts.bodies:
        yield f"{counts.bodies:,} {'/'.join(_BODIES)} requests have lost their bodies, and go out without"
    if counts.ends_unknown:
        yield "lines are stamped at their end and don't say how long they took: arrivals are late by that"
    if counts.unclear:
        yield "stamps are taken as arrivals (Apache's are; nginx stamps ends: say so with --format)"
    if options.sessions_by_client:
        yield "sessions are clients' addresses, as keyed hashes; several people may share one"
