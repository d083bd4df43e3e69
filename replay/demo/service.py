"""Answering requests: the demo server's HTTP side, which waits for the instants that the model names.

Every wait is until an absolute instant of the queueing model, so nothing drifts and one late wake-up delays
no other request. Times and lengths are decided in `queueing`, bytes in `generation` and `scoring`; binding,
signals and the process are in `server`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, cast

import numpy as np
from aiohttp import HttpVersion11, web

from replay.demo.arrivals import ArrivalLog, StampingHandler
from replay.demo.build import STATIONS, Build, StationName
from replay.demo.exposition import CONTENT_TYPE, ServerMetrics
from replay.demo.generation import Generation, Shape, answer_body, answer_events, parse_generation
from replay.demo.pacing import Clock, Line, Slot, Speech
from replay.demo.protocol import FLAKY_MODEL, MODELS, PREDICT_MODEL, Refusal, is_faulty
from replay.demo.queueing import (
    SECOND_NS,
    Int64,
    QueueFull,
    Station,
    embed_end_ns,
    predict_end_ns,
    token_instants,
)
from replay.demo.scoring import embedding_body, parse_embedding, parse_prediction, prediction_body

JSON_TYPE: Final = "application/json"
_SSE_HEADERS: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}

Answer = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]


class DemoService:
    """The handler of all requests to one build of the demo server."""

    def __init__(self, build: Build, arrivals: ArrivalLog | None = None) -> None:
        self._build = build
        self._arrivals = arrivals
        self._clock = Clock()
        self._rng = np.random.default_rng(build.seed)
        self._lines: dict[StationName, Line] = {
            name: Line(Station(build.slots(name), build.queue_limit), self._clock) for name in STATIONS
        }
        self._metrics = ServerMetrics()
        self._answer_ids = itertools.count(1)
        self._routes: dict[tuple[str, str], Answer] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/embeddings"): self._embed,
            ("POST", f"/v2/models/{PREDICT_MODEL}/infer"): self._predict,
            ("GET", "/v1/models"): self._models,
            ("GET", "/healthz"): self._health,
            ("GET", "/v2/health/ready"): self._health,
            ("GET", "/metrics"): self._exposition,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every outcome is counted, and so is a client that goes before its answer."""
        protocol = cast("StampingHandler", request.protocol)
        first_byte_ns = protocol.first_byte_ns
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.read()
        protocol.next_request()
        if self._arrivals is not None:
            self._arrivals.note(first_byte_ns, request.headers, request.path)
        read_ns, status = self._clock.now_ns(), "client_gone"
        answer = self._routes.get((request.method, request.path), self._unknown)
        try:
            response = await self._answer(answer, request, body)
            status = str(response.status)
            return response
        finally:
            endpoint = "other" if answer == self._unknown else request.path
            self._metrics.ended(endpoint, status, (self._clock.now_ns() - read_ns) / SECOND_NS)

    async def _answer(self, answer: Answer, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        headers = None
        try:
            return await answer(request, body)
        except QueueFull:
            headers = {"Retry-After": "1"}
            refusal = Refusal(503, "all slots are busy and the queue is full; try again later", "overloaded")
        except Refusal as found:
            refusal = found
        plain = request.path.startswith("/v2/")
        text = json.dumps({"error": str(refusal)}).encode() if plain else refusal.body()
        return web.Response(status=refusal.status, body=text, content_type=JSON_TYPE, headers=headers)

    async def _chat(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return await self._generate(request, body, "chat")

    async def _completion(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return await self._generate(request, body, "completion")

    async def _generate(self, request: web.BaseRequest, body: bytes, shape: Shape) -> web.StreamResponse:
        asked = parse_generation(body, shape, self._build.context_tokens)
        async with Slot(self._lines["chat"]) as slot:
            self._metrics.queued((slot.start.start_ns - slot.arrival_ns) / SECOND_NS)
            instants = token_instants(
                self._build, self._rng, slot.start, asked.prompt_tokens, len(asked.words)
            )
            if asked.model == FLAKY_MODEL or is_faulty(asked.digest, self._build.fault_rate):
                slot.until_ns = int(instants[0])
                await self._fail(slot)
            slot.until_ns = int(instants[-1])
            self._metrics.first_token((int(instants[0]) - slot.arrival_ns) / SECOND_NS)
            answer_id = f"{'chatcmpl' if shape == 'chat' else 'cmpl'}-{next(self._answer_ids):016x}"
            if asked.stream:
                response = await self._stream(request, asked, answer_id, instants)
            else:
                await self._clock.until(slot.until_ns)
                response = _json_response(answer_body(asked, answer_id, int(time.time())))
        self._metrics.tokens(asked.prompt_tokens, len(asked.words))
        return response

    async def _stream(
        self, request: web.BaseRequest, asked: Generation, answer_id: str, instants: Int64
    ) -> web.StreamResponse:
        """Say the role at once, each token at its instant, and the closing with the last one."""
        events = answer_events(asked, answer_id, int(time.time()))
        response = web.StreamResponse(headers=_SSE_HEADERS)
        await response.prepare(request)
        await response.write(events.opening)
        pieces = events.tokens
        if request.version >= HttpVersion11:
            pieces = tuple(b"%x\r\n%b\r\n" % (len(event), event) for event in pieces)
        if request.transport is None:
            raise ConnectionResetError("the client is gone")
        await Speech(self._clock, request.transport, instants.tolist(), pieces).said
        await response.write_eof(events.closing)
        return response

    async def _embed(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        asked = parse_embedding(body)
        async with Slot(self._lines["embed"]) as slot:
            slot.until_ns = embed_end_ns(self._build, self._rng, slot.start, asked.input_tokens)
            if is_faulty(asked.digest, self._build.fault_rate):
                await self._fail(slot)
            await self._clock.until(slot.until_ns)
        self._metrics.tokens(asked.input_tokens, 0)
        return _json_response(embedding_body(asked))

    async def _predict(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        asked = parse_prediction(body)
        async with Slot(self._lines["predict"]) as slot:
            slot.until_ns = predict_end_ns(self._build, self._rng, slot.start, len(asked.scores))
            if is_faulty(asked.digest, self._build.fault_rate):
                await self._fail(slot)
            await self._clock.until(slot.until_ns)
        return _json_response(prediction_body(asked))

    async def _fail(self, slot: Slot) -> None:
        await self._clock.until(slot.until_ns)
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the model failed (an injected fault)", "injected")

    async def _models(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "peaktape"} for name in MODELS]
        return _json_response(json.dumps({"object": "list", "data": models}).encode())

    async def _health(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        return _json_response(b'{"status":"ok"}')

    async def _exposition(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        stations = {str(name): line.station for name, line in self._lines.items()}
        text = self._metrics.text(
            running={name: station.running for name, station in stations.items()},
            waiting={name: station.waiting for name, station in stations.items()},
            slots={name: self._build.slots(name) for name in STATIONS},
        )
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _unknown(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        allowed = [method for method, path in self._routes if path == request.path]
        if allowed:
            raise Refusal(405, f"{request.method} found, {' or '.join(allowed)} wanted", "bad_method")
        if request.path.startswith("/v2/models/"):
            raise Refusal(404, f"no such model; there is {PREDICT_MODEL}", "model_not_found")
        raise Refusal(404, f"{request.path}: no such endpoint", "not_found")


def _json_response(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=JSON_TYPE)
