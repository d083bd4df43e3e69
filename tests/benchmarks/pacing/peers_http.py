"""General HTTP load generators: a constant rate and nothing else. They post two bytes and are told "{}"."""

from __future__ import annotations

import math
from collections.abc import Sequence

from senders import Job, Sender

BODY = "{}"
LOCUST_USER_RATE_PER_S = 10


def _k6(program: str, job: Job) -> Sequence[str]:
    rate, seconds = job.load.rate_per_s, job.load.seconds
    (job.folder / "script.js").write_text(
        'import http from "k6/http";\n'
        "export const options = {discardResponseBodies: true, scenarios: {constant: {\n"
        f'  executor: "constant-arrival-rate", rate: {round(rate)}, timeUnit: "1s",\n'
        f'  duration: "{round(seconds * 1000)}ms", preAllocatedVUs: 50, maxVUs: 500}}}}}};\n'
        f'export default () => {{ http.post("{job.url}/", "{BODY}"); }};\n'
    )
    return [program, "run", "--quiet", "--no-color", "--address", "127.0.0.1:0", "script.js"]


def _locust(program: str, job: Job) -> Sequence[str]:
    users = max(1, math.ceil(job.load.rate_per_s / LOCUST_USER_RATE_PER_S))
    run_s = math.ceil(job.load.seconds * 2)  # only if it never comes to sending all
    (job.folder / "locustfile.py").write_text(
        "from locust import FastHttpUser, constant_throughput, task\n\n\n"
        "class Sender(FastHttpUser):\n"
        f"    wait_time = constant_throughput({job.load.rate_per_s / users})\n\n"
        "    sent = 0\n\n"
        "    @task\n"
        "    def send(self):\n"
        "        Sender.sent += 1\n"
        f"        if Sender.sent > {len(job.load.offsets_ns)}:\n"
        "            return self.environment.runner.quit()\n"
        f'        self.client.post("/", data="{BODY}")\n'
    )
    return [
        *(program, "-f", "locustfile.py", "--headless", "--host", job.url, "--only-summary"),
        *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{run_s}s"),
    ]


def _httperf(program: str, job: Job) -> Sequence[str]:
    return [
        *(program, "--server", "127.0.0.1", "--port", str(job.port), "--uri", "/", "--method", "POST"),
        *(
            "--rate",
            str(job.load.rate_per_s),
            "--num-conns",
            str(len(job.load.offsets_ns)),
            "--num-calls",
            "1",
        ),
    ]


def _h2load(program: str, job: Job) -> Sequence[str]:
    (job.folder / "body").write_text(BODY)
    return [
        *(program, "--h1", "--clients", "1", "--rps", str(job.load.rate_per_s), "--data", "body"),
        *("--requests", str(len(job.load.offsets_ns)), f"{job.url}/"),
    ]


def _autocannon(program: str, job: Job) -> Sequence[str]:
    return [
        *(program, "--method", "POST", "--body", BODY, "--connections", "10", "--no-progress"),
        *(
            "--overallRate",
            str(round(job.load.rate_per_s)),
            "--amount",
            str(len(job.load.offsets_ns)),
            job.url,
        ),
    ]


def _wrk2(program: str, job: Job) -> Sequence[str]:
    rate, seconds = round(job.load.rate_per_s), math.ceil(job.load.seconds)
    return [program, "-t1", "-c10", f"-d{seconds}s", f"-R{rate}", f"{job.url}/"]


def http_peers() -> list[Sender]:
    """Every peer of this kind, installed or not."""
    return [
        Sender("k6", "k6", _k6, version=("version",)),
        Sender("Locust", "locust", _locust),
        Sender("httperf", "httperf", _httperf),
        Sender("h2load", "h2load", _h2load),
        Sender("autocannon", "autocannon", _autocannon),
        Sender("wrk2", "wrk2", _wrk2),
    ]
