"""`peaktape import`, sources that know only instants and token counts: their prompts are synthetic."""

from __future__ import annotations

from replay.cli.import_run import Asking, Files, Model, RecordedModel, Rounding, Writing, run_import
from replay.cli.option_groups import grouped


@grouped
def azure_llm(files: Files, *, model: Model = "default", asking: Asking, writing: Writing) -> None:
    """Import an Azure LLM inference trace: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.

    It holds no text, so each prompt is made of exactly ContextTokens words;
    max_tokens is GeneratedTokens.

    \b
    Examples:
      peaktape import azure-llm conv.csv -o azure.parquet
      peaktape import azure-llm conv.csv -o vllm.parquet --model llama --ignore-eos
    """
    from capture.importers.azure_llm import open_azure_llm

    requests = asking.requests(model=model)
    run_import(lambda _: open_azure_llm(files.file, asking.prompts(), requests), files, writing)


@grouped
def mooncake(
    files: Files,
    *,
    rounding: Rounding,
    model: Model = "default",
    asking: Asking,
    writing: Writing,
) -> None:
    """Import a Mooncake trace: JSON lines with timestamp, input_length, output_length, hash_ids.

    Prompts hold exactly input_length words; equal hash_ids give equal blocks
    of 512 words, so requests share prompt prefixes as in production.

    \b
    Examples:
      peaktape import mooncake trace.jsonl -o mooncake.parquet --unround
      peaktape import mooncake trace.jsonl -o first.parquet --limit 1000
    """
    from capture.importers.mooncake import open_mooncake

    requests = asking.requests(model=model)
    rounded, prompts = rounding.rounded(), asking.prompts()
    run_import(
        lambda watch: open_mooncake(files.file, prompts, requests, rounded=rounded, watch=watch),
        files,
        writing,
    )


@grouped
def otlp(files: Files, *, model: RecordedModel = None, asking: Asking, writing: Writing) -> None:
    """Import OpenTelemetry GenAI spans: OTLP JSON, as the collector's file exporter writes it.

    Prompts are the recorded ones where the spans hold them, else made of
    exactly as many words as the span counts input tokens.

    \b
    Examples:
      peaktape import otlp traces.jsonl -o spans.parquet
      peaktape import otlp traces.jsonl.gz -o vllm.parquet --model llama --ignore-eos
    """
    from capture.importers.otlp import open_otlp

    requests = asking.requests()
    prompts = asking.prompts()
    run_import(
        lambda watch: open_otlp(
            files.file, prompts, requests, model=model, folder=files.output.parent, watch=watch
        ),
        files,
        writing,
    )


@grouped
def burstgpt(
    files: Files,
    *,
    rounding: Rounding,
    model: RecordedModel = None,
    asking: Asking,
    writing: Writing,
) -> None:
    """Import a BurstGPT trace: CSV with Timestamp, Model, Request tokens, Response tokens.

    It holds no text, so each prompt is made of exactly as many words as
    tokens were asked with. Whole seconds are told, spread or refused.

    \b
    Examples:
      peaktape import burstgpt BurstGPT_1.csv -o burst.parquet --unround
      peaktape import burstgpt BurstGPT_3.csv.gz -o llama.parquet --model llama
    """
    from capture.importers.burst_gpt import open_burst_gpt

    requests = asking.requests()
    prompts, rounded = asking.prompts(), rounding.rounded()
    run_import(
        lambda watch: open_burst_gpt(
            files.file,
            prompts,
            requests,
            model=model,
            rounded=rounded,
            folder=files.output.parent,
            watch=watch,
        ),
        files,
        writing,
    )
