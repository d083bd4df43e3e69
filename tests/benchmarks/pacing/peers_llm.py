"""Load generators for inference servers. All of these take a schedule of instants; none tells its zero.

Prompts are a few tokens long and answers one token. Tokenizers can't be had from a hub here, so each gets a
byte-level one that is made on the spot.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from senders import Job, Sender

PROMPT_TOKENS = 8


def _tokenizer(folder: Path) -> str:
    """A folder that transformers loads: one token per printable ASCII sign, nothing merged.

    Not one per byte: tools make prompts of random tokens, and random bytes are no text.
    """
    vocab = {sign: at for at, sign in enumerate(["<end>", "\u0120", *map(chr, range(33, 127))])}
    special = {"id": 0, "content": "<end>", "special": True}
    special |= {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 100_000}
    settings |= {"eos_token": "<end>", "pad_token": "<end>"}
    place = folder / "tokenizer"
    place.mkdir(exist_ok=True)
    (place / "tokenizer.json").write_text(json.dumps(whole))
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    # Some readers ask for a model's configuration beside the tokenizer; any small one will do.
    (place / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": len(vocab)}))
    return str(place)


def _trace(job: Job, unit_ns: int) -> Path:
    path = job.folder / "trace.jsonl"
    lengths = {"input_length": PROMPT_TOKENS, "output_length": 1}
    rows = (
        {"timestamp": int(at_ns) / unit_ns, "hash_ids": [number]} | lengths
        for number, at_ns in enumerate(job.load.offsets_ns)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _vllm(program: str, job: Job) -> Sequence[str]:
    return [
        *(program, "bench", "serve", "--backend", "openai", "--base-url", job.url),
        *("--endpoint", "/v1/completions", "--model", "m", "--tokenizer", _tokenizer(job.folder)),
        *("--dataset-name", "timed_trace", "--dataset-path", str(_trace(job, 1_000_000_000))),
        *("--num-prompts", str(len(job.load.offsets_ns)), "--disable-shuffle", "--disable-tqdm"),
        *("--ready-check-timeout-sec", "0"),
    ]


def _aiperf(program: str, job: Job) -> Sequence[str]:
    prompts = job.folder / "prompts.jsonl"
    rows = (
        {"timestamp": int(at_ns) / 1e6, "text_input": f"a word or two {number}", "output_length": 1}
        for number, at_ns in enumerate(job.load.offsets_ns)
    )
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *(program, "profile", "--model", "m", "--url", job.url, "--endpoint-type", "completions"),
        *("--tokenizer", _tokenizer(job.folder), "--input-file", str(prompts)),
        *("--custom-dataset-type", "mooncake-trace", "--fixed-schedule", "--ui", "none"),
        *("--artifact-dir", str(job.folder / "artifacts")),
    ]


def _guidellm(program: str, job: Job) -> Sequence[str]:
    """Its trace replay, which began with a burst; at a constant rate its own profile for that."""
    if job.load.shape == "constant":
        profile: dict[str, object] = {"kind": "constant", "rate": job.load.rate_per_s}
        constraints = {"constraints": [{"kind": "max_requests", "count": len(job.load.offsets_ns)}]}
        data: dict[str, object] = {"kind": "synthetic_text"}
        data |= {"prompt_tokens": PROMPT_TOKENS, "output_tokens": 1}
    else:
        profile, constraints = {"kind": "replay", "schedule_turn": "timestamp"}, {}
        trace = _trace(job, 1_000_000_000)
        data = {"kind": "trace_synthetic", "source": {"kind": "json_file", "path": str(trace)}}
    spec = {
        "backend": {
            "kind": "openai_http",
            "target": job.url,
            "model": "m",
            "request_format": "/v1/completions",
            "stream": False,
        },
        "profile": profile,
        "tokenizer": {"kind": "huggingface_auto", "model": _tokenizer(job.folder)},
        "data": [data],
    } | constraints
    (job.folder / "scenario.json").write_text(json.dumps({"metadata": {"name": "pacing"}, "spec": spec}))
    return [program, "run", "--config", "scenario.json", "--disable-progress"]


def _inference_perf(program: str, job: Job) -> Sequence[str]:
    zero = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    instants = (zero + datetime.timedelta(microseconds=int(at_ns) // 1000) for at_ns in job.load.offsets_ns)
    rows = (f"{at:%Y-%m-%d %H:%M:%S.%f},{PROMPT_TOKENS},1\n" for at in instants)
    (job.folder / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    trace = {"file": "trace.csv", "format": "AzurePublicDataset"}
    config = {
        "api": {"type": "completion", "streaming": False},
        "data": {"type": "random", "trace": trace},
        "load": {
            "type": "trace_replay",
            "trace": trace,
            "num_workers": 1,
            "worker_max_concurrency": 1000,
            "stages": [{"rate": job.load.rate_per_s, "duration": max(1, round(job.load.seconds))}],
        },
        "server": {"type": "vllm", "model_name": "m", "base_url": job.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": _tokenizer(job.folder)},
        "storage": {"local_storage": {"path": str(job.folder / "reports")}},
    }
    (job.folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    return [program, "--config_file", "config.yml", "--log-level", "WARNING"]


def llm_peers() -> list[Sender]:
    """Every peer of this kind, installed or not."""
    cpu_only = {"CUDA_VISIBLE_DEVICES": "", "VLLM_TARGET_DEVICE": "cpu", "VLLM_LOGGING_LEVEL": "WARNING"}
    peers = [
        Sender("vllm bench serve", "vllm", _vllm, takes_schedule=True, env=cpu_only),
        # Told to be offline, AIPerf takes a tokenizer's folder for the name of one in the hub's cache.
        Sender(
            "AIPerf",
            "aiperf",
            _aiperf,
            takes_schedule=True,
            env={"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": ""},
        ),
        # On one core it started and never sent, as tried with 0.8.1: it has the server's core too.
        Sender(
            "GuideLLM",
            "guidellm",
            _guidellm,
            takes_schedule=True,
            env={"GUIDELLM__MAX_WORKER_PROCESSES": "1"},
            one_core=False,
        ),
        Sender("inference-perf", "inference-perf", _inference_perf, takes_schedule=True, version=()),
    ]
    return [dataclasses.replace(peer, slow=True) for peer in peers]
