"""From what `replay` was asked to what a supervisor needs: schedule, vetted target, connections, order."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from replay.cli.transforming import planned

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.trace_reader import Trace
    from replay.cli.replay_flags import Bounds, Connection, Target
    from replay.engine.connecting import Connecting
    from replay.engine.requests import Rewrite
    from replay.engine.scraping import ScrapeJob
    from replay.engine.supervisor import ReplayOrder
    from replay.engine.target import Guard
    from replay.transform.content_rules import ContentRules
    from replay.transform.plan import Plan
    from replay.transform.schedule_format import Lineage, Schedule


_TELLING = ("--header", "--proxy")
"""Options whose values may hold secrets."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2: a token."""
_LINE_END = re.compile(r"[\r\n\0]")


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A schedule with its file, its lineage, and the trace that it refers to."""

    path: Path
    schedule: Schedule
    lineage: Lineage
    trace: Trace


def scheduled(
    source: str, moved: str | None, plan: Plan, folder: Path, keys: Keys | None = None
) -> Scheduled:
    """The schedule that `source` is, or that `plan` makes of it (written into `folder`); `BadInput`."""
    from rich.console import Console

    from capture.failures import BadInput
    from capture.trace_reader import open_trace
    from replay.transform.plan import Plan as Untouched
    from replay.transform.schedule_format import is_schedule, read_schedule, write_schedule

    path = Path(source)
    with Console(stderr=True).status(f"reading {source}"):
        if not (path.is_file() and is_schedule(path)):
            opened = open_trace(source, keys)
            schedule, lineage = planned(opened, plan)
            path = folder / "inline.schedule.parquet"
            write_schedule(path, schedule, lineage)
            return Scheduled(path, schedule, lineage, opened)
        if plan != Untouched(seed=plan.seed):
            raise BadInput(f"{source}: is a schedule already; transform flags go with `peaktape transform`")
        schedule, lineage = read_schedule(path)
        opened = open_trace(moved or lineage.trace_path, keys)
        if opened.fingerprint != lineage.trace_fingerprint:
            raise BadInput(
                f"{opened.name}: not the trace that {source} was made from; "
                "name the right one with --trace, or transform again"
            )
    return Scheduled(path, schedule, lineage, opened)


def connecting_to(url: str, asked: Connection) -> Connecting:
    """How the target at `url` is connected to, before its addresses are known; raises `BadInput`."""
    from replay.engine.connecting import Connecting
    from replay.engine.target import parse_target

    first_byte = asked.first_byte_timeout
    return Connecting(
        target=parse_target(url),
        timeout_s=seconds_of(asked.timeout, "--timeout"),
        connect_timeout_s=seconds_of(asked.connect_timeout, "--connect-timeout"),
        first_byte_timeout_s=seconds_of(first_byte, "--first-byte-timeout") if first_byte else None,
        ca=asked.ca,
        certificate=asked.client_cert,
        key=asked.client_key,
        proxy=asked.proxy,
        unix_socket=asked.unix_socket,
    )


def guarded(connecting: Connecting, trace: Trace, resolved: list[str], asked: Target) -> Connecting:
    """`connecting` with the addresses vetted that it connects to; raises `TargetRefused`, `BadInput`.

    Names are looked up here and never again: a DNS that answers otherwise later leads no sender astray.
    """
    from capture.failures import BadInput
    from replay.engine.preflight import captured_places
    from replay.engine.target import Guard, pinned_addresses, resolve

    if resolved and (connecting.proxy or connecting.unix_socket):
        other = "--proxy (it looks names up)" if connecting.proxy else "--unix-socket (it has no address)"
        raise BadInput(f"--resolve: goes not with {other}; leave one of them out")
    target = connecting.target
    captured = captured_places(trace)
    behind = {(address, port) for host, port in captured for address in resolve(host, port)}
    allowed = frozenset(asked.allow_host or ())
    guard = Guard(frozenset(captured), frozenset(behind), allowed, asked.allow_captured_host)
    if connecting.unix_socket is not None:
        guard.check_socket(target)
        return connecting
    if connecting.proxy is not None:
        return _guarded_proxy(connecting, guard)
    addresses = pinned_addresses(resolved, target) or resolve(target.host, target.port)
    guard.check(target, addresses)
    return dataclasses.replace(
        connecting, target=dataclasses.replace(target, addresses=tuple(sorted(addresses)))
    )


def _guarded_proxy(connecting: Connecting, guard: Guard) -> Connecting:
    from replay.engine.connecting import proxy_target
    from replay.engine.target import resolve

    target, proxy = connecting.target, proxy_target(connecting.proxy or "")
    addresses = resolve(proxy.host, proxy.port)
    guard.check(proxy, addresses, option="--proxy")
    guard.check_behind_proxy(target, resolve(target.host, target.port))
    return dataclasses.replace(connecting, proxy_addresses=tuple(sorted(addresses)))


def order_of(
    found: Scheduled,
    connecting: Connecting,
    rewrite: Rewrite,
    *,
    label: str | None,
    workers: int | None,
    sender: str,
    mode: str,
    weaving: bool,
    bounds: dict[str, float],
    scrape: ScrapeJob | None = None,
) -> ReplayOrder:
    """Everything a supervisor needs; opens one connection to the target to see that it is there."""
    from replay.engine.dialling import connect_time_ns
    from replay.engine.preflight import (
        busiest_chunks_per_s,
        busiest_per_s,
        lead_ns,
        processors,
        workers_for,
    )
    from replay.engine.sender import choose
    from replay.engine.supervisor import ReplayOrder
    from replay.transform.schedule_format import schedule_fingerprint

    peak_per_s = busiest_per_s(found.schedule)
    chunks_per_s = busiest_chunks_per_s(found.trace, found.schedule)
    chosen, why = choose(sender, peak_per_s, connecting, rewrite.connections, chunks_per_s)
    return ReplayOrder(
        schedule_path=found.path,
        schedule=found.schedule,
        lineage=found.lineage,
        schedule_fingerprint=schedule_fingerprint(found.schedule, found.lineage),
        trace=found.trace,
        connecting=connecting,
        sender=chosen,
        sender_reason=why,
        rewrite=dataclasses.replace(rewrite, content=content_of(found.lineage, weaving=weaving)),
        label=label or connecting.target.authority,
        workers=workers or workers_for(found.schedule, processors(), chosen, chunks_per_s),
        lead_ns=lead_ns(connect_time_ns(connecting)),
        mode=mode,
        weaving=weaving,
        bounds=bounds,
        command=without_secrets(sys.argv[1:]),
        scrape=scrape,
    )


def content_of(lineage: Lineage, *, weaving: bool) -> ContentRules | None:
    """The rules for requests' content that a schedule carries, None without any; raises `BadInput`."""
    from capture.failures import BadInput
    from replay.transform.content_rules import ContentRules

    if "content" not in lineage.rewrite:
        return None
    rules = ContentRules.from_json(lineage.rewrite["content"])
    if weaving and rules.own_each_time:
        raise BadInput(
            "--weave: the schedule gives every request a beginning of its own, and later turns would say "
            "back another; make one without --unique-prompts and --prefix-hits"
        )
    return rules


def mode_of(asked: str, *, weave: bool) -> str:
    """The run format's name of a mode; raises `BadInput` when answers can't be woven in it."""
    from capture.failures import BadInput
    from replay.engine.run_format import OPEN, PARTLY_OPEN

    if weave and asked != "partly-open":
        raise BadInput("--weave: in open mode later turns don't wait for answers; add --mode partly-open")
    return PARTLY_OPEN if asked == "partly-open" else OPEN


def headers_of(asked: Target) -> tuple[tuple[str, str], ...]:
    """Headers set on every request: those given, and the credential from the environment; `BadInput`."""
    from capture.failures import BadInput

    headers: list[tuple[str, str]] = []
    for text in asked.header or ():
        name, colon, value = text.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()) or _LINE_END.search(value.strip()):
            raise BadInput(f"--header: {text!r} found, 'name: value' on one line wanted")
        headers.append((name.strip(), value.strip()))
    if asked.auth_env is not None:
        secret = os.environ.get(asked.auth_env, "").strip()  # files of secrets end in a line's end
        if not secret:
            raise BadInput(
                f"--auth-env {asked.auth_env}: this environment variable is not set; export it first"
            )
        if _LINE_END.search(secret):
            found = f"--auth-env {asked.auth_env}: several lines found"
            raise BadInput(f"{found}, a credential on one line wanted")
        if not _NAME.fullmatch(asked.auth_header):
            raise BadInput(f"--auth-header: {asked.auth_header!r} found, a header's name wanted")
        bearer = asked.auth_header.lower() == "authorization" and " " not in secret
        headers.append((asked.auth_header, f"Bearer {secret}" if bearer else secret))
    return tuple(headers)


def without_secrets(arguments: list[str]) -> tuple[str, ...]:
    """The command line as it may be written down: names of headers, no values; no proxy credentials."""
    from replay.engine.connecting import without_credentials

    shown: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if not (equals and option in _TELLING):  # "--name value", or something else
            option, equals, value = "", "", argument
        match option or before:
            case "--header":
                value = f"{value.partition(':')[0]}: REDACTED"
            case "--proxy":
                value = without_credentials(value)
        shown.append(f"{option}{equals}{value}")
    return tuple(shown)


def bounds_of(asked: Bounds) -> dict[str, float]:
    """The stated bounds of validity, as they stand in a run's metadata; raises `BadInput`."""
    from capture.quantities import parse_duration_ns

    bounds: dict[str, float] = {}
    if asked.max_lateness_p99 is not None:
        bounds["lateness_p99_ns"] = parse_duration_ns(asked.max_lateness_p99, "--max-lateness-p99")
    if asked.max_lateness is not None:
        bounds["lateness_max_ns"] = parse_duration_ns(asked.max_lateness, "--max-lateness")
    return bounds


def seconds_of(text: str, place: str) -> float:
    """A duration above 0 in s; raises `BadInput` naming `place`."""
    from capture.failures import BadInput
    from capture.quantities import parse_duration_ns

    duration_ns = parse_duration_ns(text, place)
    if duration_ns <= 0:
        raise BadInput(f"{place}: {text} found, more than 0 wanted")
    return duration_ns / 1e9
