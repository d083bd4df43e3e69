"""How fast each importer is and how much memory it takes, at two sizes: a flat one takes the same at both.

    python tests/benchmarks/importing.py [--rows 100000 1000000] [--sources gor access-log ...]

Each import is a process of its own, whose largest resident set is read from the kernel when it ends. Sources
are made as they would be recorded: in order of completion, every tenth one long.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "what is a peak? " * 12}]})
EPOCH_NS = 1_700_000_000 * 10**9
SEPARATOR = "\n🐵🙈🙉\n"


def requests(count: int) -> Iterator[tuple[int, int, int]]:
    """(number, end, span) in ns, by end."""
    chance = random.Random(1)
    now_ns = EPOCH_NS
    for number in range(count):
        now_ns += round(chance.expovariate(500) * 1e9)
        yield number, now_ns, round(chance.expovariate(0.1 if number % 10 == 0 else 2) * 1e9)


def gor(count: int) -> Iterator[str]:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a:80\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    for number, end_ns, span_ns in requests(count):
        yield f"1 {number:040x} {end_ns - span_ns} 1000\n{head}{SEPARATOR}"
        yield f"2 {number:040x} {end_ns - 1000} 1000\n{answer}{SEPARATOR}"


def access_log(count: int) -> Iterator[str]:
    for number, end_ns, span_ns in requests(count):
        yield (
            f'10.0.{number % 256}.1 - - [14/Nov/2023:22:13:20 +0000] "POST /v1/x?id={number} HTTP/1.1" 200 9 '
            f'"-" "curl/8" {span_ns / 1e9:.3f} {end_ns / 1e9:.3f}\n'
        )


def har(count: int) -> Iterator[str]:
    yield '{"log": {"entries": ['
    for number, end_ns, span_ns in requests(count):
        at_s, rest_ns = divmod(end_ns - span_ns, 10**9)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{rest_ns:09d}Z"
        request = {"method": "POST", "url": "http://a/v1/x", "headers": [], "postData": {"text": BODY}}
        response = {"status": 200, "headers": [], "content": {"text": "{}"}}
        entry = {"startedDateTime": stamp, "time": span_ns / 1e6, "request": request, "response": response}
        yield ("," if number else "") + json.dumps(entry)
    yield "]}}"


def otlp(count: int) -> Iterator[str]:
    for number, end_ns, span_ns in requests(count):
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        told = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        told += [
            {"key": f"gen_ai.usage.{kind}_tokens", "value": {"intValue": "40"}}
            for kind in ("input", "output")
        ]
        span = {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "startTimeUnixNano": str(end_ns - span_ns),
            "endTimeUnixNano": str(end_ns),
            "attributes": told,
        }
        yield json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n"


def burstgpt(count: int) -> Iterator[str]:
    yield "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    for _, end_ns, _ in requests(count):
        yield f"{(end_ns - EPOCH_NS) // 10**9},ChatGPT,40,40,80,Conversation log\n"


def azure_llm(count: int) -> Iterator[str]:
    yield "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for _, end_ns, _ in requests(count):
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(end_ns // 10**9))
        yield f"{stamp}.{end_ns % 10**9 // 100:07d},40,40\n"


def mooncake(count: int) -> Iterator[str]:
    for number, end_ns, _ in requests(count):
        line = {"timestamp": (end_ns - EPOCH_NS) // 10**6, "input_length": 40, "output_length": 40}
        yield json.dumps(line | {"hash_ids": [number]}) + "\n"


def vegeta(count: int) -> Iterator[str]:
    body = base64.b64encode(BODY.encode()).decode()
    for number in range(count):
        yield json.dumps({"method": "POST", "url": f"http://a/v1/x?id={number}", "body": body}) + "\n"


SOURCES: dict[str, Callable[[int], Iterator[str]]] = {
    "gor": gor,
    "access-log": access_log,
    "har": har,
    "otlp": otlp,
    "burstgpt": burstgpt,
    "azure-llm": azure_llm,
    "mooncake": mooncake,
    "vegeta": vegeta,
}


def flows(path: Path, count: int) -> None:
    """A mitmproxy flow file; written by mitmproxy itself."""
    from mitmproxy.http import Request, Response
    from mitmproxy.io import FlowWriter
    from mitmproxy.test import tflow

    with path.open("wb") as file:
        writer = FlowWriter(file)
        for number, end_ns, span_ns in requests(count):
            flow = tflow.tflow(resp=True)
            flow.id = str(number)
            flow.request = Request.make("POST", "http://a/v1/x", BODY)
            flow.request.timestamp_start = (end_ns - span_ns) / 1e9
            flow.request.timestamp_end = flow.request.timestamp_start
            flow.response = Response.make(200, b"{}")
            flow.response.timestamp_start = flow.response.timestamp_end = end_ns / 1e9
            writer.add(flow)


def measured(source: str, count: int, folder: Path) -> tuple[float, float]:
    """(seconds, MiB of the largest resident set) of importing `count` requests."""
    path = folder / source
    if source == "mitm":
        flows(path, count)
    else:
        with path.open("w") as file:
            file.writelines(SOURCES[source](count))
    command = [
        sys.executable,
        "-m",
        "replay.cli",
        "import",
        source,
        str(path),
        "-o",
        str(folder / "t.parquet"),
    ]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    path.unlink()
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"import {source} failed")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--sources", nargs="+", default=[*SOURCES, "mitm"])
    options = parser.parse_args()
    print(f"{'source':<12}" + "".join(f"{rows:>14,} rows" + f"{'requests/s':>12}" for rows in options.rows))
    for source in options.sources:
        cells = []
        for rows in options.rows:
            with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:  # noqa: S108
                seconds, mib = measured(source, rows, Path(folder))
            cells.append(f"{mib:>15,.0f} MiB{rows / seconds:>12,.0f}")
        print(f"{source:<12}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
