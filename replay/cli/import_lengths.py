"""`peaktape import`, sources that know only instants and token counts: their prompts are synthetic."""

from __future__ import annotations

from replay.cli.import_run import (
    File,
    IgnoreEos,
    Key,
    Limit,
    Model,
    Output,
    Overwrite,
    RecordedModel,
    RefuseRounded,
    Seed,
    Stream,
    Unround,
    rounded_as,
    run_import,
)


def azure_llm(
    file: File,
    output: Output,
    model: Model = "default",
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import an Azure LLM inference trace: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.

    It holds no text, so each prompt is made of exactly ContextTokens words;
    max_tokens is GeneratedTokens.

    \b
    Examples:
      peaktape import azure-llm conv.csv -o azure.parquet
      peaktape import azure-llm conv.csv -o vllm.parquet --model llama --ignore-eos
    """
    from capture.importers.azure_llm import open_azure_llm
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(model=model, stream=stream, ignore_eos=ignore_eos)
    run_import(
        lambda _: open_azure_llm(file, SyntheticPrompts(seed), requests), file, output, limit, key, overwrite
    )


def mooncake(
    file: File,
    output: Output,
    unround: Unround = False,
    refuse_rounded: RefuseRounded = False,
    model: Model = "default",
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
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
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(model=model, stream=stream, ignore_eos=ignore_eos)
    rounded, prompts = rounded_as(unround, refuse_rounded), SyntheticPrompts(seed)
    run_import(
        lambda watch: open_mooncake(file, prompts, requests, rounded=rounded, watch=watch),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def otlp(
    file: File,
    output: Output,
    model: RecordedModel = None,
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Import OpenTelemetry GenAI spans: OTLP JSON, as the collector's file exporter writes it.

    Prompts are the recorded ones where the spans hold them, else made of
    exactly as many words as the span counts input tokens.

    \b
    Examples:
      peaktape import otlp traces.jsonl -o spans.parquet
      peaktape import otlp traces.jsonl.gz -o vllm.parquet --model llama --ignore-eos
    """
    from capture.importers.otlp import open_otlp
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(stream=stream, ignore_eos=ignore_eos)
    prompts = SyntheticPrompts(seed)
    run_import(
        lambda watch: open_otlp(file, prompts, requests, model=model, folder=output.parent, watch=watch),
        file,
        output,
        limit,
        key,
        overwrite,
    )


def burstgpt(
    file: File,
    output: Output,
    unround: Unround = False,
    refuse_rounded: RefuseRounded = False,
    model: RecordedModel = None,
    stream: Stream = True,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    limit: Limit = None,
    key: Key = None,
    overwrite: Overwrite = False,
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
    from capture.importers.synthetic_prompt import SyntheticPrompts
    from capture.importers.synthetic_request import ChatRequests

    requests = ChatRequests(stream=stream, ignore_eos=ignore_eos)
    prompts, rounded = SyntheticPrompts(seed), rounded_as(unround, refuse_rounded)
    run_import(
        lambda watch: open_burst_gpt(
            file, prompts, requests, model=model, rounded=rounded, folder=output.parent, watch=watch
        ),
        file,
        output,
        limit,
        key,
        overwrite,
    )
