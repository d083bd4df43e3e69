"""`peaktape import`, sources that hold requests as they were: they pass the redaction of a live capture."""

from __future__ import annotations

from typing import Annotated

import typer

from replay.cli.import_run import (
    File,
    Key,
    Limit,
    Output,
    Overwrite,
    Policy,
    Redact,
    RefuseRounded,
    Seed,
    Unround,
    redaction_of,
    rounded_as,
    run_import,
)


def har(
    file: File,
    output: Output,
    unround: Unround = False,
    refuse_rounded: RefuseRounded = False,
    seed: Seed = 0,
    redact: Redact = None,
    policy: Policy = None,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a HAR as browsers and proxies export it, also gzipped or mitmproxy's .zhar.

    Credential headers and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import har session.har -o session.parquet
      peaktape import har session.har -o session.parquet --redact X-Customer
    """
    from capture.importers.har import open_har

    redaction, rounded = redaction_of(policy, redact), rounded_as(unround, refuse_rounded)
    run_import(
        lambda watch: open_har(
            file, redaction, rounded=rounded, seed=seed, folder=output.parent, watch=watch
        ),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def mitm(
    file: File,
    output: Output,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Keep the flows before a damaged one instead of refusing.")
    ] = False,
    redact: Redact = None,
    policy: Policy = None,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a mitmproxy flow file (.mitm, .flow), as written by mitmdump -w or mitmproxy's save.

    HTTP flows become rows; others are counted and left out. Credential headers
    and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import mitm prod.mitm -o prod.parquet
      peaktape import mitm crashed.mitm -o whole.parquet --salvage
    """
    from capture.importers.mitm_flows import open_mitm

    redaction = redaction_of(policy, redact)
    run_import(
        lambda watch: open_mitm(file, redaction, salvage=salvage, folder=output.parent, watch=watch),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def gor(
    file: File,
    output: Output,
    redact: Redact = None,
    policy: Policy = None,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a GoReplay file (gor --output-file), requests with the answers recorded beside them.

    Record answers with --input-raw-track-response. Credential headers and
    query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import gor requests_0.gor -o requests.parquet
      peaktape import gor requests_0.gor.gz -o requests.parquet --redact X-Customer
    """
    from capture.importers.gor import open_gor

    run_import(
        lambda watch: open_gor(file, redaction_of(policy, redact), folder=output.parent, watch=watch),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def access_log(
    file: File,
    output: Output,
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="auto, common, combined, envoy, json, or the format string of the server's configuration "
            "(nginx log_format, Apache LogFormat, Envoy).",
        ),
    ] = "auto",
    unround: Unround = False,
    refuse_rounded: RefuseRounded = False,
    sessions_by_client: Annotated[
        bool, typer.Option("--sessions-by-client", help="One session per client address, as a keyed hash.")
    ] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out lines that aren't of the format, and count them.")
    ] = False,
    seed: Seed = 0,
    redact: Redact = None,
    policy: Policy = None,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import an access log of nginx, Apache or Envoy, text or JSON lines.

    A log holds no bodies: POST requests go out without. Stamps of whole
    seconds are told, spread (--unround) or refused (--refuse-rounded).

    \b
    Examples:
      peaktape import access-log access.log -o access.parquet --unround
      peaktape import access-log envoy.json.gz -o access.parquet
      peaktape import access-log access.log -o access.parquet --format \\
        '$remote_addr [$time_local] "$request" $status $request_time $msec'
    """
    from capture.importers.access_log import LogOptions, open_access_log

    rounded = rounded_as(unround, refuse_rounded)
    options = LogOptions(format, rounded, seed, sessions_by_client, skip_broken)
    redaction = redaction_of(policy, redact)
    run_import(
        lambda watch: open_access_log(file, redaction, options, folder=output.parent, watch=watch),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def vegeta(
    file: File,
    output: Output,
    rate: Annotated[
        str, typer.Option("--rate", metavar="N", help="Requests a second: targets hold no instants.")
    ] = "50",
    redact: Redact = None,
    policy: Policy = None,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import vegeta's JSON targets (vegeta attack -format=json), evenly spaced at --rate.

    Credential headers and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import vegeta targets.jsonl -o targets.parquet --rate 200
      peaktape import vegeta targets.jsonl.gz -o targets.parquet
    """
    from capture.importers.vegeta import open_vegeta
    from capture.quantities import parse_factor

    per_second, redaction = parse_factor(rate, "--rate"), redaction_of(policy, redact)
    run_import(
        lambda _: open_vegeta(file, redaction, rate=per_second),
        file,
        output,
        limit,
        key,
        overwrite,
    )
