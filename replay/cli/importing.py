"""`peaktape import`: other tools' records → traces. One command per source, each with its options."""

from __future__ import annotations

import typer

from replay.cli.import_lengths import azure_llm, burstgpt, mooncake, otlp
from replay.cli.import_requests import access_log, gor, har, mitm, vegeta

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Turn other tools' records into a trace.",
    epilog="Example: peaktape import har session.har -o session.parquet",
)
app.command("har")(har)
app.command("mitm")(mitm)
app.command("gor")(gor)
app.command("access-log")(access_log)
app.command("vegeta")(vegeta)
app.command("azure-llm")(azure_llm)
app.command("mooncake")(mooncake)
app.command("burstgpt")(burstgpt)
app.command("otlp")(otlp)
