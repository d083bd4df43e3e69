"""How punctual are load generators? Arrivals stamped by one cheap server, against the instants they were due.

    python tests/benchmarks/pacing/measure.py [--rates 100,500,1000] [--peers DIR] [--results FILE]

Runs `peaktape replay` with both senders, a plain C timer (what this machine can do at all) and every peer
that is installed, at the same rates and, where a tool takes instants, on the same schedule; repeats are
interleaved, another tool first in each. The senders have one core and the server another. Peers are looked
for in DIR, one environment each (DIR/aiperf/bin, DIR/autocannon/node_modules/.bin, …), and on PATH; none of
them is needed.

Not a test: nothing fails here, figures are printed with their ratios to the limit and to ours.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ceiling import ceiling_section
from large import large_section
from loads import BURSTY_CV, SEED, bursty, constant
from ours import ours, program
from pacing import merged, read_kept, run_all, write_kept
from peers_http import LOCUST_USER_RATE_PER_S, http_peers
from peers_llm import llm_peers
from processes import CORES, adopt_orphans
from senders import Places, Sender, limits, version_of
from server import BenchmarkError, compiled
from steadiness import steadiness
from streams import streams_section
from table import pacing_table

NOTES = f"""\
- Lateness is |server arrival − due|, both on CLOCK_MONOTONIC of one machine: the way through the kernel and
  the server's wake-up are in it, for the limit as for all. A cell: the median of the repeats and their range.
- peaktape and the timers tell their zero, and each request is matched by its number. The peers do not: their
  due instants are anchored at their own first arrival or at their median offset, whichever gives the lower
  p99, and the i-th arrival is held against the i-th due. That is the kindest reading: nothing is charged for
  a late start, and a request that overtakes another costs nothing. Only a tool that leaves requests out, to
  be seen under "arrived", has later ones held against earlier dues; "cut off" was killed after minutes.
- "bursty" has Gamma gaps with a coefficient of variation of {BURSTY_CV:g} (seed {SEED}); only tools that take
  a schedule of instants run it, on the very same instants.
- "CPU µs each": all processes of the tool from the first arrival to the last, by request: neither start nor
  report. "CPU s in all": from start to end.
- peaktape, AIPerf, GuideLLM and inference-perf post a small completion and get a whole JSON answer, vLLM's
  gets the same as a stream; the others post 2 bytes and get 2. All of a tool's processes share one core,
  but for GuideLLM's: on one core it starts and never sends, so it has the server's core too.
- Workers: 1 for peaktape, GuideLLM and inference-perf, else the tool's default. Locust's users each send
  {LOCUST_USER_RATE_PER_S} a second; autocannon has 10 connections, h2load 1; httperf opens one for
  each request.
"""


def _machine() -> list[str]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        if Path("/proc/cpuinfo").exists()
        else iter(()),
        platform.processor() or "unknown",
    )
    return [
        f"- command: `python {shlex.join(['tests/benchmarks/pacing/measure.py', *sys.argv[1:]])}`",
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"- CPU: {model}, {len(CORES) or os.cpu_count()} cores",
        f"- kernel: {platform.system()} {platform.release()}; Python {platform.python_version()}",
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _pacing(places: Places, senders: Sequence[Sender], chosen: argparse.Namespace) -> str:
    paths = [(sender, path) for sender in senders if (path := sender.path(places))]
    absent = [sender.name for sender in senders if not sender.path(places)]
    rates = [float(word) for word in chosen.rates.split(",")]
    shapes = {"constant": constant, "bursty": bursty}
    loads = [shapes[shape](rate, chosen.seconds) for shape in chosen.shapes.split(",") for rate in rates]
    earlier = read_kept(chosen.keep)
    done = max((len(runs) for senders in earlier.values() for runs in senders.values()), default=0)
    repeats = range(done, done + chosen.repeats)
    found, failed = run_all(places, paths, loads, repeats, chosen.slow_up_to, _tell)
    found = merged(earlier, found)
    write_kept(chosen.keep, found)
    limit = f"timerfd + {chosen.spin_us} µs spin"
    versions = [f"- {sender.name}: {version_of(sender, path)}" for sender, path in paths]
    not_run = [f"- {name}: not run here: not found on this machine" for name in absent]
    not_run += [f"- {name}, {load}: not run here: {reason}" for (load, name), reason in failed.items()]
    return (
        f"## Arrivals, {chosen.seconds:g} s each, {repeats.stop} repeats\n\n"
        + pacing_table(found, limit, "peaktape wire", failed)
        + f"\n{NOTES}\nVersions:\n\n"
        + "\n".join([*versions, *not_run])
        + "\n"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default="100,500,1000", help="requests/s, by comma (default: %(default)s)")
    parser.add_argument("--shapes", default="constant,bursty", help="schedules (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="length of a run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (default: %(default)s)")
    parser.add_argument("--peers", type=Path, help="folder with one environment per peer")
    parser.add_argument(
        "--slow-up-to", type=float, default=1000, help="rate for LLM peers (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="senders whose name holds one of these, by comma")
    parser.add_argument("--spin-us", type=int, default=80, help="of the second timer (default: %(default)s)")
    parser.add_argument(
        "--streams", type=int, nargs="?", const=1000, help="instead: so many SSE streams (1000)"
    )
    parser.add_argument(
        "--polling-server",
        action="store_true",
        help="the server never sleeps, so that its own wake-up is not counted to the sender",
    )
    parser.add_argument("--large", action="store_true", help="instead: 1 MB bodies among small requests")
    parser.add_argument("--ceiling", action="store_true", help="instead: up to which rate each is punctual")
    parser.add_argument("--bisect", type=int, default=3, help="steps of --ceiling (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="arrivals, then --streams, then --large")
    parser.add_argument(
        "--keep", type=Path, help="add arrivals to this file's, so that repeats may be made one at a time"
    )
    parser.add_argument("--results", type=Path, help="write what is printed to this file too")
    return parser.parse_args()


def _sections(chosen: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="pacing-") as folder:
        places = Places(chosen.peers, Path(folder))
        senders = [*limits(chosen.spin_us, compiled), *ours(), *llm_peers(), *http_peers()]
        wanted = [word.lower() for word in chosen.only.split(",") if word]
        if wanted:
            senders = [one for one in senders if any(word in one.name.lower() for word in wanted)]
        peaktape = program(places)
        if peaktape is None:
            raise BenchmarkError("no peaktape beside this Python or on PATH")
        sections = ["\n".join([*steadiness(places.programs), ""])]
        if chosen.ceiling:
            paths = [(sender, path) for sender in senders if (path := sender.path(places))]
            sections.append(
                ceiling_section(places, paths, chosen.seconds, chosen.bisect, "peaktape wire", _tell)
            )
            return sections
        if chosen.all or not (chosen.streams or chosen.large):
            sections.append(_pacing(places, senders, chosen))
        if chosen.all or chosen.streams:
            sections.append(streams_section(places, peaktape, chosen.streams or 1000, chosen.repeats, _tell))
        if chosen.all or chosen.large:
            sections.append(large_section(places, peaktape, chosen.seconds, chosen.repeats))
        return sections


def main() -> None:
    """Run and print."""
    chosen = _parse()
    if chosen.polling_server:
        os.environ["STAMP_SERVER_POLLS"] = "1"
    adopt_orphans()
    try:
        sections = _sections(chosen)
    except BenchmarkError as failure:
        raise SystemExit(f"pacing: {failure}") from failure
    text = "\n".join(["# Pacing\n", *_machine(), *sections])
    if chosen.peers:  # where they lie on this machine is nobody's business
        for path in (str(chosen.peers.absolute()), str(chosen.peers)):
            text = text.replace(path, "DIR")
    print(text)
    if chosen.results:
        chosen.results.write_text(text)


if __name__ == "__main__":
    main()
