"""How much of a proxy's time goes to its recording: the hooks are timed where they run, in a capture at work.

Both the hooks' time and the whole thread's CPU time are of the same seconds of one process, so the share is
steady where whole runs of two proxies differ by what else the machine did. Not in it: what recording costs
outside of its hooks, such as cold caches; `throughput` has that.

    python tests/benchmarks/capture/hook_share.py FILE capture --upstream … -o …

runs a capture, and says on each line of FILE: hooks' ns, the thread's CPU ns, requests that were over.
"""

from __future__ import annotations

import json
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOOKS = ("requestheaders", "request", "responseheaders", "response")
EVERY_S = 0.2


def timed_hooks(addon: Any) -> dict[str, int]:
    """Have `addon`'s hooks timed from now on; the ns of each as they add up, and "over", the requests."""
    spent: dict[str, int] = dict.fromkeys((*HOOKS, "bodies", "over"), 0)

    def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*given: Any) -> Any:
            began_ns = time.perf_counter_ns()
            result = run(*given)
            spent[name] += time.perf_counter_ns() - began_ns
            return result

        return hook

    passing_on = addon._passing_on
    addon._passing_on = lambda *given: timed("bodies", passing_on(*given))
    for name in HOOKS:
        setattr(addon, name, timed(name, getattr(addon, name)))
    over = addon._over

    def counted(self: Any, *given: Any) -> None:
        spent["over"] += 1
        over(self, *given)

    addon._over = counted
    return spent


def tell(spent: dict[str, int], file: Path) -> None:
    """Append how things stand to `file`, again and again, from a thread of its own."""
    main = threading.main_thread().ident
    assert main is not None
    clock = time.pthread_getcpuclockid(main)
    with file.open("w") as lines:
        while True:
            time.sleep(EVERY_S)
            lines.write(json.dumps([dict(spent), time.clock_gettime_ns(clock)]) + "\n")
            lines.flush()


def shares(file: Path, first: int) -> dict[str, float]:
    """The share of the thread's CPU time by hook, of what was told from line `first` on."""
    told = [json.loads(line) for line in file.read_text().splitlines()[first:]]
    (before, began_ns), (after, ended_ns) = told[0], told[-1]
    return {name: (after[name] - before[name]) / (ended_ns - began_ns) for name in (*HOOKS, "bodies")}


def main() -> None:
    """Run a capture with timed hooks."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from capture.addon import CaptureAddon

    file = Path(sys.argv[1])
    threading.Thread(target=tell, args=(timed_hooks(CaptureAddon), file), daemon=True).start()
    sys.argv = ["peaktape", *sys.argv[2:]]
    runpy.run_module("replay.cli", run_name="__main__")


if __name__ == "__main__":
    main()
