"""gRPC through `peaktape capture`, over TLS and in plaintext: nothing changes, every message is stamped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from capture_rig import keeping, rows_of, running_capture
from grpc_rig import GAP_S, SERVICE, Call, every_kind_of_call, running_grpc

pytestmark = pytest.mark.slow


def pairs(headers: list[dict[str, str]] | None) -> list[tuple[str, str]]:
    return [(pair["name"], pair["value"]) for pair in headers or ()]


def messages(row: dict[str, Any], *, from_client: bool) -> list[bytes]:
    """The messages of one direction, cut out of its body as the row's sizes say, without their prefix."""
    body, at, found = row["request_body"] if from_client else row["response_body"], 0, []
    for size, direction in zip(row["message_bytes"], row["message_from_client"], strict=True):
        if direction is from_client:
            found.append(body[at + 5 : at + size])
            at += size
    assert at == len(body)
    return found


async def captured(folder: Path, *, client_tls: bool, server_tls: bool) -> tuple[dict[str, Call], Any, Any]:
    """What a client got directly and through the proxy, and the rows by method."""
    own = folder / "upstream-ca"
    own.mkdir()
    authority = own / "mitmproxy-ca-cert.pem" if server_tls else None
    async with running_grpc(own if server_tls else None) as url:
        direct = await every_kind_of_call(url.partition("://")[2], authority)
        trust = ["--upstream-ca", str(authority)] if authority else []
        kept = keeping(folder, "x-tokens")
        async with running_capture(folder / "prod.parquet", "--upstream", url, *trust, *kept) as proxy:
            ours = folder / "config/peaktape/mitmproxy/mitmproxy-ca-cert.pem" if client_tls else None
            through = await every_kind_of_call(proxy.url[7:], ours)
            assert await proxy.stop() == 0
            assert not [line for line in proxy.said if "crashed" in line], proxy.said
    rows = {row["path"].rpartition("/")[2]: row for row in rows_of(folder / "prod.parquet")}
    return direct, through, rows


@pytest.mark.parametrize(
    ("client_tls", "server_tls"),
    [(True, True), (False, False), (False, True)],
    ids=["TLS", "plaintext", "plaintext to TLS"],
)
async def test_every_kind_of_call_passes_unchanged_and_is_kept_message_by_message(
    tmp_path: Path, client_tls: bool, server_tls: bool
) -> None:
    direct, through, rows = await captured(tmp_path, client_tls=client_tls, server_tls=server_tls)
    assert through == direct
    assert direct["Talk"].messages == [b"heard turn 0", b"heard turn 1", b"heard turn 2"]
    assert len(rows) == len(direct)
    for method, call in direct.items():
        row = rows[method]
        assert (row["outcome"], row["status"], row["http_version"]) == ("complete", 200, "HTTP/2.0")
        assert row["path"] == f"/{SERVICE}/{method}"
        assert messages(row, from_client=False) == call.messages, method
        assert row["message_ns"] == sorted(row["message_ns"])
    assert messages(rows["Unary"], from_client=True) == [bytes(range(256)) * 300]
    assert messages(rows["ClientStream"], from_client=True) == [b"one", b"", b"three"]
    assert rows["Talk"]["message_from_client"] == [True, False] * 3


async def test_stamps_and_trailers_are_those_of_the_call(tmp_path: Path) -> None:
    _, _, rows = await captured(tmp_path, client_tls=False, server_tls=False)
    stream = rows["ServerStream"]
    assert stream["message_ns"][-1] - stream["message_ns"][1] > 0.5 * 3 * GAP_S * 1e9
    upload = rows["ClientStream"]
    assert upload["request_chunk_ns"][-1] - upload["request_chunk_ns"][0] > 0.5 * 2 * GAP_S * 1e9
    assert sum(upload["request_chunk_bytes"]) == upload["request_bytes"] == len(upload["request_body"])
    assert ("grpc-status", "0") in pairs(rows["Unary"]["response_trailers"])
    assert ("x-tokens", "7") in pairs(rows["Unary"]["response_trailers"])
    in_trailers, in_headers = rows["BreakOff"], rows["Refuse"]
    assert ("grpc-status", "13") in pairs(in_trailers["response_trailers"])
    assert ("grpc-status", "8") in pairs(in_headers["response_headers"]), "trailers-only"
    assert in_headers["response_trailers"] is None
    assert in_trailers["error"] == "grpc-status 13 (INTERNAL): out of memory"
    assert in_headers["error"] == "grpc-status 8 (RESOURCE_EXHAUSTED): queue is full, größer"
    assert rows["Unary"]["error"] is None
