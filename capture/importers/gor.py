"""GoReplay's files (`gor --output-file`) → traces: requests paired with the answers recorded beside them.

A file is a row of payloads, each ended by a line of three monkeys; a payload is a line "type id instant
latency" and the HTTP/1 message as it was on the wire. Type 1 is a request, 2 its answer, 3 an answer to a
replayed request. Three generations of GoReplay mean three things by an answer's figures:

    until 0.1x   2 id round-trip               instant of the answer unknown
    until 1.2    2 id start time-since-request the request has no latency
    since 1.3    2 id start transfer-time      the request has a latency too
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from capture.failures import BadInput
from capture.importers.captured_rows import CapturedRows, Row, Watch, unwatched
from capture.importers.http_payload import Message, read_message, request_line, status_of
from capture.importers.pending_trace import PendingTrace
from capture.importers.sorted_spool import SortedSpool
from capture.importers.source_file import SourceFile, reading
from capture.redaction import RedactionPolicy
from capture.semantics import header
from capture.trace_format import COMPLETE, NOT_ANSWERED

SEPARATOR: Final = "🐵🙈🙉\n".encode()
_REQUEST, _ANSWER, _REPLAYED = b"1", b"2", b"3"
_LEAST_EPOCH_NS: Final = 10**17
_MOST_EPOCH_NS: Final = 7_258_118_400 * 10**9
_MOST_NS: Final = 10**15
_LARGEST_PAYLOAD_BYTES: Final = 1 << 30
CLOCK_TICK_NS: Final = 1000
NO_ANSWER: Final = "no answer in the recording"


class Payload(NamedTuple):
    """One payload. `instant_ns` and `latency_ns` are as it says; None where it doesn't."""

    line: int
    kind: bytes
    ident: bytes
    instant_ns: int
    latency_ns: int | None
    data: bytes


@dataclasses.dataclass
class Found:
    """What the payloads come to."""

    replayed: int = 0
    orphans: int = 0
    short: int = 0


def open_gor(
    path: Path, policy: RedactionPolicy, *, folder: Path | None = None, watch: Watch = unwatched
) -> PendingTrace:
    """Begin to import the GoReplay file at `path`; reads it once, pairing by id through a spool in `folder`.

    Raises `BadInput` with line, found and wanted.
    """
    source, found = SourceFile(path), Found()
    by_id = SortedSpool(folder)
    for payload in read_payloads(source, watch):
        if payload.kind == _REPLAYED:
            found.replayed += 1
        else:
            size_bytes = 400 + len(payload.data)
            by_id.add((payload.ident, payload.kind), tuple(payload), size_bytes)
    rows = CapturedRows(policy, folder)
    for _, group in itertools.groupby(map(Payload._make, by_id), key=lambda payload: payload.ident):
        for request, answer in _paired(list(group), found):
            row = row_of(request, answer, found)
            if row is None:
                rows.dropped["not an HTTP/1 request"] += 1
            else:
                rows.add(row)
    if found.replayed:
        rows.dropped["answer to a replayed request"] = found.replayed
    if found.orphans:
        rows.dropped["answer without its request"] = found.orphans
    return rows.pending(path, "import:gor", clock_tick_ns=CLOCK_TICK_NS, notes=_notes(found))


def read_payloads(source: SourceFile, watch: Watch = unwatched) -> Iterator[Payload]:
    """The payloads in a file, one by one, their heads checked. Raises `BadInput`."""
    with source, reading(source.path):
        line, begin, held, held_bytes = 0, 1, [], 0
        for text in source.binary:
            line += 1
            if text != SEPARATOR:
                held.append(text)
                held_bytes += len(text)
                if held_bytes > _LARGEST_PAYLOAD_BYTES:
                    raise BadInput(f"{source.path}:{begin}: a payload of more than 1 GiB found; is it .gor?")
                continue
            if held:
                yield _payload(source.path, begin, b"".join(held))
            if line % 64 == 0:
                watch(source.fraction_read())
            begin, held, held_bytes = line + 1, [], 0
        if b"".join(held).strip():
            raise BadInput(
                f"{source.path}:{begin}: a payload without its end found, a line "
                f"{SEPARATOR.decode().strip()} after each wanted; is the file cut off, or no GoReplay file?"
            )


def _payload(path: Path, line: int, data: bytes) -> Payload:
    head, _, message = data.partition(b"\n")
    fields = head.split()
    kinds = (_REQUEST, _ANSWER, _REPLAYED)
    if not (3 <= len(fields) <= 4 and fields[0] in kinds and all(map(_is_count, fields[2:]))):
        shown = head[:60].decode("utf-8", "replace")
        raise BadInput(f"{path}:{line}: {shown!r} found, a line '1|2|3 id instant [latency]' wanted")
    instant_ns = int(fields[2])
    if fields[0] == _REQUEST and not _LEAST_EPOCH_NS <= instant_ns < _MOST_EPOCH_NS:
        raise BadInput(f"{path}:{line}: instant {instant_ns} found, ns since 1970 wanted")
    latency_ns = int(fields[3]) if len(fields) == 4 else None
    return Payload(line, fields[0], fields[1], instant_ns, latency_ns, message.removesuffix(b"\n"))


def _is_count(text: bytes) -> bool:
    digits = text.removeprefix(b"-")
    return digits.isdigit() and len(digits) < 20


def _paired(group: list[Payload], found: Found) -> Iterator[tuple[Payload, Payload | None]]:
    """Requests of one id, each with its answer: the first of those that stand after it."""
    requests = [payload for payload in group if payload.kind == _REQUEST]
    answers = [payload for payload in group if payload.kind == _ANSWER]
    found.orphans += max(0, len(answers) - len(requests))
    for number, request in enumerate(requests):
        yield request, answers[number] if number < len(answers) else None


def row_of(request: Payload, answer: Payload | None, found: Found) -> Row | None:
    """A trace row with instants since the epoch, unredacted; None when the request is no HTTP/1."""
    message = read_message(request.data)
    asked = request_line(message.start) if message else None
    if message is None or asked is None:
        return None
    method, target, version = asked
    reply = read_message(answer.data) if answer else None
    status = status_of(reply.start) if reply else None
    found.short += (not message.whole) + bool(reply and status is not None and not reply.whole)
    body_ns = None
    if request.latency_ns is not None and 0 <= request.latency_ns < _MOST_NS:
        body_ns = request.instant_ns + request.latency_ns
    row: Row = {
        "request_id": f"gor-{request.line}",
        "session_id": None,
        "turn": 0,
        "arrival_ns": request.instant_ns,
        "method": method,
        **_address(target, message),
        "http_version": version,
        "request_headers": message.headers,
        "request_body": message.body,
        "request_body_ns": body_ns,
        **NOT_ANSWERED,
        "error": NO_ANSWER,
    }
    if answer is not None and reply is not None and status is not None:
        row |= {"outcome": COMPLETE, "error": None, "status": status}
        row |= {"response_headers": reply.headers, "response_body": reply.body}
        row |= {"response_bytes": len(reply.body), **_instants(request, answer)}
    return row


def _instants(request: Payload, answer: Payload) -> dict[str, int | None]:
    begun, took = answer.instant_ns, answer.latency_ns
    if begun < _LEAST_EPOCH_NS:  # the oldest form: a round-trip in place of an instant
        return {"end_ns": request.instant_ns + begun if 0 <= begun < _MOST_NS else None}
    first_byte_ns = begun if begun > request.instant_ns else None
    if took is None or not 0 <= took < _MOST_NS:
        return {"first_byte_ns": first_byte_ns}
    since = begun if request.latency_ns is not None else request.instant_ns
    return {"first_byte_ns": first_byte_ns, "end_ns": max(since + took, first_byte_ns or 0)}


def _address(target: str, message: Message) -> dict[str, str]:
    scheme, authority, path = "http", header(message.headers, "host") or "", target
    absolute = re.fullmatch(r"(https?)://([^/?#\[\]]+|\[[0-9a-fA-F:.]+\](?::\d+)?)([/?].*)?", target)
    if absolute is not None:
        scheme, authority, rest = absolute[1], absolute[2].rpartition("@")[2], absolute[3] or "/"
        path = rest if rest.startswith("/") else f"/{rest}"
    name, colon, port = authority.rpartition(":")
    if not (colon and port.isdigit()):
        name, port = authority, "443" if scheme == "https" else "80"
    return {"scheme": scheme, "host": f"{name or 'import.invalid'}:{port}", "path": path}


def _notes(found: Found) -> tuple[str, ...]:
    notes: list[Any] = ["GoReplay records no chunk instants, and sees HTTP/1 in plain text only"]
    if found.short:
        notes.append(
            f"{found.short} bodies are shorter than their Content-Length says (GoReplay's --copy-buffer-size)"
        )
    return tuple(notes)
