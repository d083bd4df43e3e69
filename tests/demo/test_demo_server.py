"""The running demo server, asked by real clients: the openai SDK and httpx."""

from __future__ import annotations

import json
import socket
import time

import httpx
import openai
import pytest

from capture.failures import BadInput
from replay.demo.arrivals import read_arrivals
from replay.demo.build import Build
from replay.demo.launch import RunningServer

FAST = Build(prefill_ms=20, prefill_token_ms=0.01, decode_ms=4, embed_ms=2, predict_ms=2)
HELLO = [{"role": "user", "content": "hello you there"}]


@pytest.fixture(scope="module")
def server():
    with RunningServer(FAST) as running:
        yield running


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.base_url, timeout=10) as client:
        yield client


@pytest.fixture
def sdk(server):
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


def test_the_sdk_gets_the_same_answer_streamed_and_whole(sdk):
    whole = sdk.chat.completions.create(model="demo-chat", messages=HELLO)
    stream = sdk.chat.completions.create(
        model="demo-chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert whole.usage.prompt_tokens == 3
    assert whole.usage.completion_tokens == len(said.split())


def test_tokens_arrive_one_by_one(client):
    form = {"model": "demo-chat", "messages": HELLO, "stream": True, "max_tokens": 10}
    with client.stream("POST", "/v1/chat/completions", json=form) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        reads = [piece for piece in response.iter_raw() if piece]
    assert len(reads) > 3  # a busy machine may join some
    assert sum(piece.count(b'"content":') for piece in reads) == 11
    assert reads[-1].endswith(b"data: [DONE]\n\n")


def test_completions_and_embeddings(sdk):
    text = sdk.completions.create(model="demo-chat", prompt="once upon a time", max_tokens=5)
    pieces = sdk.completions.create(model="demo-chat", prompt="once upon a time", max_tokens=5, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == text.choices[0].text
    assert text.choices[0].finish_reason == "length"
    vectors = sdk.embeddings.create(model="demo-embed", input=["one", "two words"])
    assert [len(vector.embedding) for vector in vectors.data] == [64, 64]
    assert vectors.usage.prompt_tokens == 3


def test_predict_models_and_health(client, sdk):
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    scores = client.post("/v2/models/demo-rank/infer", json={"inputs": [tensor]}).json()
    assert scores["outputs"][0]["shape"] == [2, 1]
    assert "demo-chat" in [model.id for model in sdk.models.list()]
    assert client.get("/healthz").status_code == 200


def test_errors_are_the_sdk_s_errors(sdk):
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        sdk.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="at most 8192"):
        sdk.chat.completions.create(model="demo-chat", messages=HELLO, max_tokens=9000)
    with pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model="demo-flaky", messages=HELLO, stream=True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_errors_name_what_was_wanted(client, method, path, status):
    response = client.request(method, path, content=b"{" if method == "POST" else None)
    assert response.status_code == status
    assert response.json()["error"]


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(server):
    host, port = server.base_url.removeprefix("http://").split(":")
    body = b'{"model": "demo-embed", "input": "x"}'
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head % len(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_a_large_body_is_read(client):
    form = {"model": "demo-embed", "input": "x" * 3_000_000}
    assert client.post("/v1/embeddings", json=form).status_code == 200


def samples(client):
    text = client.get("/metrics").text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_metrics_count_requests_and_tokens(client):
    before = samples(client)
    form = {"model": "demo-chat", "messages": HELLO, "max_tokens": 7}
    client.post("/v1/chat/completions", json=form)
    client.post("/v1/chat/completions", content=b"{")
    after = samples(client)

    def grown(name):
        return after[f"peaktape_demo:{name}"] - before.get(f"peaktape_demo:{name}", 0)

    assert grown('request_total{endpoint="/v1/chat/completions",status="200"}') == 1
    assert grown('request_total{endpoint="/v1/chat/completions",status="400"}') == 1
    assert grown("prompt_tokens_total") == 3
    assert grown("generation_tokens_total") == 7
    assert grown('time_to_first_token_seconds_bucket{le="+Inf"}') == 1
    assert after['peaktape_demo:num_requests_running{station="chat"}'] == 0


def test_a_client_that_hangs_up_frees_its_slot(client):
    form = {"model": "demo-chat", "messages": HELLO, "stream": True, "max_tokens": 5000}
    name = 'peaktape_demo:num_requests_running{station="chat"}'
    with client.stream("POST", "/v1/chat/completions", json=form) as response:
        pieces = response.iter_raw()
        next(pieces)
        assert samples(client)[name] == 1
    deadline = time.monotonic() + 5
    while samples(client)[name] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert samples(client)[name] == 0
    assert samples(client)[
        'peaktape_demo:request_total{endpoint="/v1/chat/completions",status="client_gone"}'
    ]


def test_a_full_server_says_when_to_come_back():
    form = {"model": "demo-chat", "messages": HELLO, "stream": True, "max_tokens": 5000}
    with (
        RunningServer(Build(chat_slots=1, queue_limit=0)) as small,
        httpx.stream("POST", f"{small.base_url}/v1/chat/completions", json=form) as first,
    ):
        pieces = first.iter_raw()
        next(pieces)
        second = httpx.post(f"{small.base_url}/v1/chat/completions", json={**form, "stream": False})
    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"


def test_answers_never_come_before_the_model_says(client):
    began = time.monotonic()
    form = {"model": "demo-chat", "messages": HELLO, "max_tokens": 20}
    client.post("/v1/chat/completions", json=form)
    least_s = (20 + 19 * 4) / 1000
    assert time.monotonic() - began > least_s * 0.85  # jitter of the sum is about 2 %


def test_arrivals_are_stamped_before_the_answer_and_named(tmp_path):
    path = tmp_path / "arrivals.parquet"
    body = json.dumps({"inputs": [{"shape": [1, 1], "data": [1]}]}).encode()
    sent_ns, answered_ns = [], []
    with RunningServer(FAST, arrivals=path) as stamping, httpx.Client(base_url=stamping.base_url) as client:
        for number in range(3):
            sent_ns.append(time.monotonic_ns())
            client.post(
                "/v2/models/demo-rank/infer",
                content=body,
                headers={"x-peaktape-request": f"r{number}/0"},
            )
            answered_ns.append(time.monotonic_ns())
        client.get("/healthz")
    rows = read_arrivals(path).to_pylist()
    assert [row["request"] for row in rows] == ["r0/0", "r1/0", "r2/0", None]
    assert rows[0]["path"] == "/v2/models/demo-rank/infer"
    for row, before, after in zip(rows, sent_ns, answered_ns, strict=False):
        assert before < row["monotonic_ns"] < after


def test_what_is_no_arrival_log_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(BadInput, match="arrival log"):
        read_arrivals(tmp_path / "x.parquet")
