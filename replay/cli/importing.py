"""`peaktape import`: other tools' records → traces or runs. One command per source, each with its options."""

from __future__ import annotations

import typer

from replay.cli.import_lengths import azure_llm, burstgpt, mooncake, otlp
from replay.cli.import_requests import access_log, gor, har, mitm, vegeta
from replay.cli.import_results import RESULTS, aiperf_results, guidellm_results, inference_perf, vllm_bench

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Turn other tools' records into a trace, or their results into a run.",
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
app.command("vllm-bench", rich_help_panel=RESULTS)(vllm_bench)
app.command("aiperf-results", rich_help_panel=RESULTS)(aiperf_results)
app.command("guidellm-results", rich_help_panel=RESULTS)(guidellm_results)
app.command("inference-perf", rich_help_panel=RESULTS)(inference_perf)
