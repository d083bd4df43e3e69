"""What the recorder and the compactor do for each request, without a proxy or a network beside them.

    python tests/benchmarks/capture/recorder_side.py [--only posts,chats,…] [--repeats 5] [--write]

Exchanges are put into a spool as a proxy would, then taken by the recorder's `Intake` (meaning, redaction,
journal) and made a segment by `compact`, in this process; its CPU time is read for each. Both are done again
and again, and the least is shown: nothing here waits, so what is more is the machine's. Not a test: nothing
is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import costs  # noqa: E402
import load  # noqa: E402
from answer_server import ANSWER  # noqa: E402
from chats import chat_requests  # noqa: E402

from capture.capture_facts import CaptureFacts, RecorderOptions  # noqa: E402
from capture.compaction import compact  # noqa: E402
from capture.exchange import Exchange, RequestHead  # noqa: E402
from capture.handover import Handover  # noqa: E402
from capture.intake import Intake  # noqa: E402
from capture.journal_folder import JournalFolder, journals_in  # noqa: E402

GAP_NS = 20_000_000
CHUNKS = 100
MEGABYTE = 1_000_000

type Body = tuple[bytes, list[bytes], bytes]
"""A request's body, its answer's chunks, and the answer's content type."""


def _posts() -> Iterator[Body]:
    for _ in range(2000):
        yield load.BODY, [ANSWER], b"application/json"


def _chats() -> Iterator[Body]:
    words = " ".join(request.decode("latin-1") for request in chat_requests(30)).split()
    for number, body in enumerate(chat_requests(1000)):
        said = [_event(words[(number * 131 + at) % len(words)], number) for at in range(CHUNKS)]
        yield body, [*said, b"data: [DONE]\n\n"], b"text/event-stream"


def _event(word: str, number: int) -> bytes:
    delta = {"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None}
    chunk = {"id": f"chatcmpl-{number:024d}", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": [delta]}).encode() + b"\n\n"


def _large(make: Callable[[np.random.Generator], bytes], count: int = 40) -> Callable[[], Iterator[Body]]:
    def bodies() -> Iterator[Body]:
        chance = np.random.default_rng(0)
        for _ in range(count):
            yield make(chance), [ANSWER], b"application/json"

    return bodies


def _image(chance: np.random.Generator) -> bytes:
    import base64

    data = base64.b64encode(chance.bytes(MEGABYTE * 3 // 4)).decode()
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": [url]}]}).encode()


def _prose(chance: np.random.Generator) -> bytes:
    text = b" ".join(chat_requests(400, int(chance.integers(1 << 30)))).decode()[:MEGABYTE]
    return json.dumps({"model": "m", "prompt": text}).encode()


def _vector(chance: np.random.Generator) -> bytes:
    return json.dumps({"model": "m", "input": chance.normal(size=MEGABYTE // 20).tolist()}).encode()


KINDS: dict[str, Callable[[], Iterator[Body]]] = {
    "5 KB posts": _posts,
    "chats, streams of 100 chunks": _chats,
    "1 MB: random bytes": _large(lambda chance: chance.bytes(MEGABYTE)),
    "1 MB: hex": _large(lambda chance: chance.bytes(MEGABYTE // 2).hex().encode()),
    "1 MB: a picture in JSON": _large(_image),
    "1 MB: prose in JSON": _large(_prose, 10),
    "1 MB: numbers in JSON": _large(_vector),
}


def exchange_of(number: int, body: Body) -> Exchange:
    """A request as the addon has it once it is over."""
    asked, chunks, kind = body
    fields = tuple(line.partition(b": ")[::2] for line in load.post(number).split(b"\r\n")[1:8])
    head = RequestHead(b"POST", b"http", "127.0.0.1:8000", b"/v1/chat/completions", b"HTTP/1.1", fields)
    arrival_ns = number * 1_000_000
    made = Exchange(f"{0xBE:08x}-{number:08d}", head, arrival_ns, None, "c-1")
    made.whole(asked, arrival_ns + 100_000)
    made.answered(200, ((b"Content-Type", kind),), arrival_ns + GAP_NS)
    for at, chunk in enumerate(chunks):
        made.take(chunk, arrival_ns + GAP_NS * (1 + at) + number % 977 * 1000, at)
    made.finish(arrival_ns + GAP_NS * (len(chunks) + 1))
    return made


@contextlib.contextmanager
def filled(bodies: Iterator[Body], folder: Path) -> Iterator[tuple[CaptureFacts, int, int]]:
    """A capture whose spool holds these exchanges: its facts, how many they are, and their bytes."""
    (folder / "trace").mkdir()
    options = RecorderOptions(spool_bytes=1 << 30, segment_bytes=1 << 30)
    facts = CaptureFacts("bench", folder / "trace", folder / "spool", 0, 0, "bench", (), options)
    handover = Handover(facts, "proxy-0")
    handover.switch.limit(0)
    count = size_bytes = 0
    for count, body in enumerate(bodies, 1):
        made = exchange_of(count, body)
        handover.opened()
        handover.asked(made)
        handover.closed(made)
        size_bytes += len(body[0]) + sum(map(len, body[1]))
    handover.close()
    yield facts, count, size_bytes


def measured(bodies: Iterator[Body]) -> tuple[float, float, int, int]:
    """CPU s of the intake, of the compaction; requests; bytes of their bodies."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        filled(bodies, Path(name)) as (facts, count, size),
    ):
        intake = Intake(facts, JournalFolder(facts.folder))
        began_s = time.process_time()
        while intake.turn():
            continue
        took_s = time.process_time() - began_s
        if intake.rows != count:
            raise RuntimeError(f"{intake.rows} rows of {count} requests: {intake.dropped}")
        (journal,) = journals_in(facts.folder)
        began_s = time.process_time()
        done = compact(journal, facts.metadata({"recorded": count}))
        if done.rows != count:
            raise RuntimeError(f"{done.rows} rows in the segment of {count} requests")
        return took_s, time.process_time() - began_s, count, size


def table_of(kinds: list[str], repeats: int) -> costs.Table:
    """The table of what was measured."""
    table = costs.Table(
        "CPU of recorder and compactor by kind of traffic",
        (
            "traffic",
            "requests",
            "recorder, µs/request",
            "compactor, µs/request",
            "recorder, MB/s",
            "both, MB/s",
        ),
    )
    for kind in kinds:
        runs = [measured(KINDS[kind]()) for _ in range(repeats)]
        intake_s, compact_s = (min(run[at] for run in runs) for at in (0, 1))
        _, _, count, size = runs[0]
        each = (f"{1e6 * took / count:,.0f}" for took in (intake_s, compact_s))
        speed = (f"{size / 1e6 / took:,.0f}" for took in (intake_s, intake_s + compact_s))
        table.rows.append((kind, f"{count:,}", *each, *speed))
    table.notes.append("The least of several runs. Megabytes of request and response bodies.")
    return table


def main() -> None:
    """Measure what was asked for; print the table and, if asked to, put it into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="kinds by their beginning, comma-separated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    table = table_of(
        [kind for kind in KINDS if kind.startswith(tuple(chosen.only.split(",")))], chosen.repeats
    )
    print(table.markdown(), flush=True)
    if chosen.write:
        command = f"python tests/benchmarks/capture/recorder_side.py {' '.join(sys.argv[1:])}"
        costs.write("recorder side", table, command)


if __name__ == "__main__":
    main()
