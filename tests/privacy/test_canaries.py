"""A thousand secrets through the real proxy, of every kind, in every place: none on disk, none in the log."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import gzip
import itertools
import json
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import brotli
import pyarrow.parquet as pq
import pytest
import zstandard
from aiohttp import web
from yarl import URL

from capture.semantics import decode_content
from tests.capture.capture_rig import metadata_of, rows_of, running_capture
from tests.privacy.canaries import KINDS, Canary, canary

PLACES = (
    "request_json",
    "response_json",
    "stream",
    "coded_request",
    "coded_response",
    "query",
    "header",
    "answer_header",
)
CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@dataclasses.dataclass
class Planted:
    """One exchange: what is asked and answered, and the secrets in it."""

    place: str
    secrets: list[Canary]
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b'{"model": "m"}'
    answer_headers: dict[str, str] = dataclasses.field(default_factory=dict)
    answer: list[bytes] = dataclasses.field(default_factory=lambda: [b'{"ok": true}'])


def plant(place: str, secrets: list[Canary], chance: random.Random) -> Planted:
    """An exchange that carries `secrets` at `place`."""
    made = Planted(place, secrets, headers={"Content-Type": "application/json"})
    made.answer_headers = {"Content-Type": "application/json"}
    if place == "query":
        pairs = (f"{'api_key' if i % 2 else 'q'}={quote(one.text)}" for i, one in enumerate(secrets))
        made.path = f"/v1/{quote(secrets[0].text.split()[-1], safe='')}?{'&'.join(pairs)}"
    elif place == "header":
        made.headers |= {f"X-Own-{i}": one.text.replace("\n", " ") for i, one in enumerate(secrets)}
        made.headers |= {
            "X-Session-Id": secrets[0].text.replace("\n", " "),
            "Authorization": secrets[1].secret,
        }
    elif place == "answer_header":
        made.answer_headers |= {f"X-Own-{i}": one.text.replace("\n", " ") for i, one in enumerate(secrets)}
        made.answer_headers["Set-Cookie"] = f"id={secrets[0].secret}"
    elif place == "stream":
        made.answer_headers = {"Content-Type": "text/event-stream"}
        made.answer = [event for one in secrets for event in deltas(f"It is {one.text} indeed.", chance)]
    else:
        made.body = made.answer[0]
        body = json.dumps(at_depth([one.text for one in secrets], chance)).encode()
        coding = chance.choice(sorted(CODINGS)) if place.startswith("coded") else ""
        body = CODINGS[coding](body) if coding else body
        if "request" in place:
            made.body, made.headers = body, made.headers | ({"Content-Encoding": coding} if coding else {})
        else:
            made.answer = [body[: len(body) // 2], body[len(body) // 2 :]]
            made.answer_headers |= {"Content-Encoding": coding} if coding else {}
    return made


def at_depth(texts: list[str], chance: random.Random) -> Any:
    """JSON that holds the texts at some depth, some of them in JSON within strings, some as member names."""
    value: Any = {"messages": [{"role": "user", "content": f"Hi!\n{text}\n"} for text in texts]}
    for text in texts:
        value = {"x": value, "note": [f"({text})", 1.5], text: None}
        if chance.random() < 0.4:
            value = {"arguments": json.dumps(value, ensure_ascii=chance.random() < 0.5)}
    return value


def deltas(text: str, chance: random.Random) -> Iterator[bytes]:
    cuts = sorted(chance.randrange(len(text)) for _ in range(chance.randrange(1, 9)))
    for a, b in itertools.pairwise([0, *cuts, len(text)]):
        event = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": text[a:b]}}]}
        yield b"data: " + json.dumps(event).encode() + b"\n\n"


@asynccontextmanager
async def answering(planted: list[Planted]) -> AsyncIterator[str]:
    """A server that gives each exchange its answer, in as many writes as it has pieces."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        own = planted[int(request.headers["X-Request-Id"])]
        response = web.StreamResponse(headers=own.answer_headers)
        await response.prepare(request)
        for piece in own.answer:
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def decoded_strings(value: Any) -> Iterator[str]:
    """Every string in a value, JSON in strings read as well."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from itertools.chain(decoded_strings(key), decoded_strings(below))
    elif isinstance(value, list | tuple):
        for below in value:
            yield from decoded_strings(below)
    elif isinstance(value, str):
        yield value
        if value.startswith("{"):
            yield from decoded_strings(json.loads(value))


def readings(row: dict[str, Any]) -> Iterator[str]:
    """A row in every way it can be read: as it stands, bodies decoded, JSON unescaped, deltas joined."""
    yield repr(row)
    for side in ("request", "response"):
        headers = {pair["name"].lower(): pair["value"] for pair in row[f"{side}_headers"] or ()}
        body = decode_content(row[f"{side}_body"] or b"", headers.get("content-encoding"))
        assert body is not None
        text = body.decode()
        yield text
        if headers.get("content-type", "").startswith("text/event-stream"):
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            yield "".join(event["choices"][0]["delta"]["content"] for event in events)
        elif text:
            yield "\n".join(decoded_strings(json.loads(text)))


def fragments(one: Canary) -> Iterator[str]:
    """Twelve characters at a time: no part of a secret that would help to guess it may be left."""
    for start in range(0, max(1, len(one.secret) - 11), 6):
        yield one.secret[start : start + 12]


def contents_below(folder: Path) -> list[bytes]:
    """The raw bytes of every file in it; some come and go while it is read."""
    contents = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            contents += [path.read_bytes()] if path.is_file() else []
    return contents


async def send(url: str, planted: list[Planted]) -> list[bytes]:
    answers = []
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as client:
        for number, one in enumerate(planted):
            headers = {**one.headers, "X-Request-Id": str(number)}
            where = URL(url + one.path, encoded=True)
            async with client.post(where, headers=headers, data=one.body) as response:
                answers.append(await response.read())
    return answers


@pytest.mark.slow
async def test_of_a_thousand_canaries_none_is_on_disk_and_none_in_the_log(tmp_path: Path) -> None:
    chance = random.Random(20_261_125)
    kinds = itertools.cycle(KINDS)
    planted = [
        plant(PLACES[i % len(PLACES)], [canary(next(kinds), chance) for _ in range(5)], chance)
        for i in range(200)
    ]
    async with answering(planted) as upstream:
        output = tmp_path / "segments"
        async with running_capture(output, "--upstream", upstream, "--segment-s", "0.5") as proxy:
            answers = await send(proxy.url, planted)
            during = contents_below(tmp_path)
            assert await proxy.stop() == 0
            said = "".join(proxy.said)
    assert answers == [b"".join(one.answer) for one in planted]  # the clients' bytes are their own business

    rows = rows_of(output)
    assert len(rows) == len(planted)
    everything = "\n".join(itertools.chain.from_iterable(map(readings, rows)))
    raw = during + contents_below(tmp_path)
    footers = [
        b"".join(itertools.chain.from_iterable((pq.read_metadata(path).metadata or {}).items()))
        for path in output.glob("*.parquet")
    ]
    for one in itertools.chain.from_iterable(exchange.secrets for exchange in planted):
        for part in fragments(one):
            assert part not in everything, f"{one.kind}: {part}"
            assert part not in said
            assert not any(part.encode() in content for content in (*raw, *footers))
            coded = base64.b64encode(part.encode())
            assert not any(coded in content for content in raw)
    redaction = metadata_of(output)["redaction"]
    assert redaction["policy"] == "default"
    assert sum(redaction["left_out"].values()) >= 600  # those in bodies, one by one


def test_the_canaries_are_really_planted() -> None:
    chance = random.Random(1)
    for place in PLACES:
        made = plant(place, [canary(kind, chance) for kind in KINDS[:5]], chance)
        assert repr((made.path, made.headers, made.body, made.answer_headers, made.answer)).count("{") > 0
        asked = decode_content(made.body, made.headers.get("Content-Encoding")) or b""
        sent = [made.path + repr(made.headers) + repr(made.answer_headers)]
        sent.append("\n".join(decoded_strings(json.loads(asked))))
        answer = decode_content(b"".join(made.answer), made.answer_headers.get("Content-Encoding")) or b""
        if place == "stream":
            events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line]
            sent.append("".join(event["choices"][0]["delta"]["content"] for event in events))
        else:
            sent.append("\n".join(decoded_strings(json.loads(answer))))
        for one in made.secrets:
            assert any(one.secret in text for text in sent), (place, one.kind)
