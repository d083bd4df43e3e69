"""`peaktape import`, sources that hold requests as they were: they pass the redaction of a live capture."""

from __future__ import annotations

from typing import Annotated

import typer

from replay.cli.import_run import Files, Redacting, Rounding, Seed, Writing, run_import
from replay.cli.option_groups import grouped


@grouped
def har(
    files: Files,
    *,
    rounding: Rounding,
    seed: Seed = 0,
    redacting: Redacting,
    writing: Writing,
) -> None:
    """Import a HAR as browsers and proxies export it, also gzipped or mitmproxy's .zhar.

    Credential headers and query parameters are redacted as in a live capture.

    \b
    Examples:
      peaktape import har session.har -o session.parquet
      peaktape import har session.har -o session.parquet --redact X-Customer
    """
    from capture.importers.har import open_har

    redaction, rounded = redacting.redaction(), rounding.rounded()
    run_import(
        lambda watch: open_har(
            files.file, redaction, rounded=rounded, seed=seed, folder=files.output.parent, watch=watch
        ),
        files,
        writing,
    )


@grouped
def mitm(
    files: Files,
    *,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Keep the flows before a damaged one instead of refusing.")
    ] = False,
    redacting: Redacting,
    writing: Writing,
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

    redaction = redacting.redaction()
    run_import(
        lambda watch: open_mitm(
            files.file, redaction, salvage=salvage, folder=files.output.parent, watch=watch
        ),
        files,
        writing,
    )


@grouped
def gor(files: Files, *, redacting: Redacting, writing: Writing) -> None:
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
        lambda watch: open_gor(files.file, redacting.redaction(), folder=files.output.parent, watch=watch),
        files,
        writing,
    )


@grouped
def access_log(
    files: Files,
    *,
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="auto, common, combined, envoy, json, or the format string of the server's configuration "
            "(nginx log_format, Apache LogFormat, Envoy).",
        ),
    ] = "auto",
    rounding: Rounding,
    sessions_by_client: Annotated[
        bool, typer.Option("--sessions-by-client", help="One session per client address, as a keyed hash.")
    ] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out lines that aren't of the format, and count them.")
    ] = False,
    seed: Seed = 0,
    redacting: Redacting,
    writing: Writing,
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

    rounded = rounding.rounded()
    options = LogOptions(format, rounded, seed, sessions_by_client, skip_broken)
    redaction = redacting.redaction()
    run_import(
        lambda watch: open_access_log(
            files.file, redaction, options, folder=files.output.parent, watch=watch
        ),
        files,
        writing,
    )


@grouped
def vegeta(
    files: Files,
    *,
    rate: Annotated[
        str, typer.Option("--rate", metavar="N", help="Requests a second: targets hold no instants.")
    ] = "50",
    redacting: Redacting,
    writing: Writing,
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

    per_second, redaction = parse_factor(rate, "--rate"), redacting.redaction()
    run_import(lambda _: open_vegeta(files.file, redaction, rate=per_second), files, writing)
