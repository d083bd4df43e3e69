"""The SLO file: per-endpoint, per-model and per-phase targets, and refusals that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import CHAT, EMBED, MS, MadeRun, S

from capture.failures import BadInput
from capture.yaml_file import load_yaml
from replay.analysis.metrics import Latencies
from replay.analysis.slo import evaluate, met_all
from replay.analysis.slo_file import objectives_of
from replay.analysis.values import METRICS, Objective

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "slo.yml"


def read(folder: Path, text: str) -> tuple[Objective, ...]:
    path = folder / "slo.yml"
    path.write_text(text)
    return objectives_of(load_yaml(path, "an SLO file"), "slo.yml")


def test_the_sample_reads_and_shows_every_key() -> None:
    found = objectives_of(load_yaml(SAMPLE, "an SLO file"), str(SAMPLE))
    assert Objective("ttft", 0.99, 5e9, endpoint=CHAT) in found
    assert Objective("recovery", None, 30e9, optional=True) in found
    text = SAMPLE.read_text()
    for key in (
        *METRICS,
        "endpoint:",
        "model:",
        "phase:",
        "optional:",
        "error_rate",
        "shed_rate",
        "recovery",
    ):
        assert key in text


def test_a_target_speaks_of_the_requests_it_matches(tmp_path: Path) -> None:
    objectives = read(
        tmp_path,
        "targets:\n"
        "- {endpoint: POST /v1/emb*, e2e: {p100: 10ms}}\n"
        "- {endpoint: POST /v1/chat*, phase: spike, e2e: {p50: 300ms, p90: 300ms}}\n"
        "- {model: nobody, error_rate: 0}\n"
        "- {model: nobody, shed_rate: 0, optional: true}\n",
    )
    n = 40
    chat = np.arange(n) % 2 == 0
    late = chat & (np.arange(n) >= 30)
    made = MadeRun(
        due_ns=np.arange(n) * 10.0 * MS,
        e2e_ns=np.where(late, 1.0 * S, np.where(chat, 200.0 * MS, 9.0 * MS)),
        endpoint=[CHAT if is_chat else EMBED for is_chat in chat],
        phase=["spike" if i >= 20 else "base" for i in range(n)],
    )
    latencies = Latencies(made.run())
    embed, half, most, nobody = evaluate(latencies, objectives)
    assert (embed.met, embed.requests) == (True, 20)
    assert (half.met, half.requests, half.attainment) == (True, 10, 0.5)
    assert (most.met, most.burn) == (False, pytest.approx(5.0))
    assert (nobody.met, nobody.requests) == (False, 0)
    assert (met_all(latencies, objectives) == ~late).all()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("targets:\n- ttfb: {p99: 1s}\n", 2, "'ttfb' found, one of endpoint, model, phase"),
        ("targets:\n- endpoint: POST /x\n", 2, "a target without a limit found"),
        ("targets:\n- ttft: {p99: 1s}\n- phase: spike\n  ttft:\n    p101: 1s\n", 5, "up to p100 wanted"),
        ("targets:\n- ttft:\n    p99: 500\n", 3, "a duration like 500ms or 1.5s wanted instead of '500'"),
        ("targets:\n- ttft: 500ms\n", 2, "a mapping such as {p50: 300ms, p99: 800ms} wanted"),
        ("targets:\n- ttft:\n    median: 1s\n", 3, "'median' found, a mapping such as"),
        ("targets:\n- error_rate: 150%\n", 2, "a share like 1% or 0.01 wanted instead of '150%'"),
        ("targets:\n- error_rate: [1]\n", 2, "instead of a list"),
        ("targets:\n- error_rate: 1%\n  optional: perhaps\n", 3, "true or false wanted"),
        ("targets:\n- endpoint: 7\n  error_rate: 1%\n", 2, "endpoint: 7 found, a text wanted"),
        ("targets:\n- e2e: {p99: 1s}\n- e2e: {p99: 2s}\n", 3, "states again what line 2 states"),
        ("targets:\n- model: m\n  recovery: 3s\n", 3, "recovery: is of the whole service"),
        ("targets: {}\n", 1, "targets: a mapping found, a list wanted"),
        ("", 1, "the SLO: nothing found"),
        ("targets: []\n", 1, "no target found"),
        ("targets:\n- [\n", 3, "valid YAML wanted"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    told = str(caught.value)
    assert f"slo.yml:{line}: " in told
    assert words in told
    assert "\n" not in told
