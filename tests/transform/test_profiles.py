"""Profiles: what is fitted and made again is alike, within stated errors; nothing of a request is in one."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.importers.pending_trace import write_pending
from capture.importers.synthetic_prompt import count_tokens
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.transform.client_table import read_client_tables
from replay.transform.content_facts import session_facts
from replay.transform.fitting import fit, quantiles_of
from replay.transform.generated import generate, pending_trace
from replay.transform.inspection import TraceFacts, inspect_trace
from replay.transform.profile import Arrivals, Burst, ClientClass, Profile, Quantiles, SharedPrefix
from replay.transform.profile_file import profile_text, read_profile, write_profile
from tests.trace_rows import trace_row

sys.path.append(str(Path(__file__).resolve().parents[1] / "importers"))
from real_files import real

S = 1_000_000_000
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"

HAND_MADE = Profile(
    arrivals=(
        Arrivals(10.0, (2.0, 0.0, 6.0), {"chat": (0.8, 0.5), "embed": (0.2, 0.5)}, bursts=(Burst(0.5, 0.4),)),
        Arrivals(30.0, (1.0,), {"embed": (1.0,)}, ("weibull",), (1.7,)),
    ),
    classes={
        "chat": ClientClass(
            "chat",
            "llama",
            True,
            Quantiles((0.0, 0.5, 1.0), (10, 100, 900)),
            Quantiles((0.5,), (30,)),
            rank_correlation=0.4,
            turns={1: 0.5, 3: 0.5},
            growth_tokens=Quantiles((0.0, 1.0), (20, 60)),
            keeps_history=1.0,
            answer_s=Quantiles((0.5,), (0.2,)),
            think_s=Quantiles((0.0, 1.0), (-0.1, 0.5)),
            prefixes=(SharedPrefix(0.6, 40), SharedPrefix(0.2, 8)),
        ),
        "embed": ClientClass(
            "embeddings",
            "e5",
            False,
            Quantiles((0.0, 1.0), (50, 90)),
            repeats=0.5,
            repeated=Quantiles((0.0, 1.0), (0.5, 1.0)),
        ),
    },
    origin="capture",
    notes=("made by hand",),
)


def written(profile: Profile, path: Path, **options: float) -> Trace:
    requests = generate(profile, np.random.default_rng(1), **options)
    write_pending(pending_trace(Path("p.yaml"), profile, requests, 1), path)
    return open_trace(path)


@pytest.fixture(scope="module")
def demo() -> tuple[Profile, TraceFacts]:
    trace = open_trace(SAMPLE)
    return fit(trace, 10, np.random.default_rng(0)), inspect_trace(trace)


def test_a_profile_reads_back_as_it_was_written(tmp_path: Path, demo: tuple[Profile, TraceFacts]) -> None:
    for number, profile in enumerate((HAND_MADE, demo[0])):
        write_profile(tmp_path / f"{number}.yaml", profile)
        assert read_profile(tmp_path / f"{number}.yaml") == profile


def test_traffic_made_from_a_fitted_profile_is_like_that_it_was_fitted_to(
    tmp_path: Path, demo: tuple[Profile, TraceFacts]
) -> None:
    profile, before = demo
    after = inspect_trace(written(profile, tmp_path / "t.parquet", factor=3.0))
    # 78 of the demo's 660 requests are no prompts (features, broken JSON): the profile says so, and has 582.
    assert "left out: 78 requests" in profile.notes[0]
    assert after.arrivals.rows == pytest.approx(3 * 582, rel=0.1)
    assert after.arrivals.span_s == pytest.approx(before.arrivals.span_s, rel=0.02)
    for column, level, within in (
        ("input_tokens", 0.5, 0.1),
        ("input_tokens", 0.9, 0.15),
        ("output_tokens", 0.5, 0.1),
        ("output_tokens", 0.9, 0.1),
    ):
        wanted = before.content.lengths[column].at(level)
        assert after.content.lengths[column].at(level) == pytest.approx(wanted, rel=within), (column, level)
    assert before.content.sessions.think_s is not None
    assert after.content.sessions.think_s is not None
    assert after.content.sessions.think_s.at(0.5) == pytest.approx(
        before.content.sessions.think_s.at(0.5), rel=0.15
    )
    # Of its 526 sessions 449 have a prompt: the others are single requests that are left out.
    wanted = before.content.sessions.several_turns / 449
    found = after.content.sessions
    assert found.several_turns / found.sessions == pytest.approx(wanted, abs=0.03)
    assert before.content.prefix is not None
    assert after.content.prefix is not None
    assert after.content.prefix.share == pytest.approx(before.content.prefix.share, abs=0.08)
    assert set(after.endpoints) == {"POST /v1/chat/completions", "POST /v1/embeddings"}


def test_a_profile_holds_no_word_id_host_or_header_of_the_traffic(demo: tuple[Profile, TraceFacts]) -> None:
    text = profile_text(demo[0])
    ours = " ".join((profile_text(HAND_MADE), *demo[0].notes))  # the format's words, and the notes'
    words = set(re.findall(r"[A-Za-z]+", text)) - set(re.findall(r"[A-Za-z]+", ours))
    assert words == {"demo"}  # of models' names
    trace = open_trace(SAMPLE)
    for row in trace.take(np.arange(trace.rows)).to_pylist():
        for secret in (row["request_id"], row["session_id"], row["host"], row["path"]):
            assert secret is None or secret not in text


def test_model_names_stay_at_home_on_demand() -> None:
    shared = fit(open_trace(SAMPLE), 10, np.random.default_rng(0), names=False)
    assert {one.model for one in shared.classes.values()} == {"model-1", "model-2"}
    assert "demo-chat" not in profile_text(shared)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=80),
    st.integers(2, 20),
    st.integers(10**8, 10**9),
)
def test_no_quantile_is_one_requests_own(values: list[int], at_least: int, giant: int) -> None:
    found = quantiles_of(np.array([*values, giant], float), at_least)
    if found is None:
        assert len(values) + 1 < at_least
        return
    assert list(found.values) == sorted(found.values)
    # The giant counts as one of at_least: what is told of it is spread over so many.
    assert max(found.values) <= 2 * (giant + (at_least - 1) * 10**6) / at_least * 1.01


def test_small_classes_are_counted_with_larger_ones(demo: tuple[Profile, TraceFacts]) -> None:
    profile = demo[0]
    assert {one.model for one in profile.classes.values()} == {"demo-chat", "demo-embed"}
    assert any("16 sessions of small classes" in note for note in profile.notes)
    with pytest.raises(BadInput, match="at least 3000 of one kind wanted"):
        fit(open_trace(SAMPLE), 1000, np.random.default_rng(0))


def test_the_same_seed_makes_the_same_trace(tmp_path: Path) -> None:
    one, other = (written(HAND_MADE, tmp_path / f"{k}.parquet") for k in range(2))
    rows = [trace.take(np.arange(trace.rows)).to_pylist() for trace in (one, other)]
    assert rows[0] == rows[1]


def test_made_requests_have_the_lengths_sessions_and_beginnings_of_the_profile(tmp_path: Path) -> None:
    trace = written(HAND_MADE, tmp_path / "t.parquet", factor=4.0)
    rows = trace.take(np.arange(trace.rows)).to_pylist()
    sessions: dict[str, list[dict[str, object]]] = {}
    beginnings, asked_before, repeats, embeds = set(), set(), 0, 0
    for row in rows:
        body = json.loads(row["request_body"])
        chat = row["path"] == "/v1/chat/completions"
        prompt = body["messages"][0]["content"] if chat else body["input"]
        assert count_tokens(prompt) == row["input_tokens"]
        assert ("max_tokens" in body, row["stream"]) == (chat, chat)
        if not chat:
            words = tuple(prompt.split()[:25])  # half of the shortest
            embeds, repeats = embeds + 1, repeats + (words in asked_before)
            asked_before.add(words)
        if row["session_id"]:
            sessions.setdefault(row["session_id"], []).append(row | {"prompt": prompt})
        if chat and row["turn"] == 0 and row["input_tokens"] >= 45:
            beginnings.add(" ".join(prompt.split()[:40]))
    assert len(sessions) > 10
    for turns in sessions.values():
        assert [row["turn"] for row in turns] == list(range(len(turns)))  # cut short by the end at the most
        for before, after in itertools.pairwise(turns):
            assert str(after["prompt"]).startswith(str(before["prompt"]))
    chats = sum(row["path"] == "/v1/chat/completions" and row["turn"] == 0 for row in rows)
    assert len(beginnings) < 0.75 * chats  # 60 % begin with the same 40 tokens
    assert repeats / embeds == pytest.approx(0.5, abs=0.15)


def test_the_sample_profile_makes_what_its_comments_say() -> None:
    profile = read_profile(SAMPLE.parent / "chat.profile.yaml")
    requests = generate(profile, np.random.default_rng(1))
    documents = requests.of_class == requests.labels.index("documents")
    assert documents.sum() == pytest.approx(300, rel=0.35)  # gaps of CV 2.5: counts of IDC 6
    assert requests.input_tokens[documents].min() >= 2000
    facts = session_facts(requests.session[~documents], np.empty(0))
    assert facts.several_turns / facts.sessions == pytest.approx(0.6, abs=0.05)


def test_a_slice_holds_what_begins_in_it() -> None:
    requests = generate(HAND_MADE, np.random.default_rng(1), slice_ns=(20 * S, 30 * S))
    assert 0 <= requests.arrival_ns.min() <= requests.arrival_ns.max() < 10 * S
    whole = generate(HAND_MADE, np.random.default_rng(1))
    assert len(requests) < len(whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("kind: chat", "kind: telepathy"), "classes.chat.kind: telepathy found, one of chat, completions"),
        (("model: llama", "modell: llama"), "classes.chat: modell found, only"),
        (("p50: 100", "p50: 5"), "classes.chat.input_tokens: levels or values out of order"),
        (("rate_per_s: [1]", "rate_per_s: [-1]"), "arrivals[1].rate_per_s[0]: -1 found, a number from 0"),
        (("rate_per_s: [1]", "rate_per_s: [0]"), "0 throughout found"),
        (("cv: 1.7", "cv: 0"), "arrivals[1].cv: 0 found, a number from 0.02 to 50"),
        (("embed: [1]", "voice: [1]"), "arrivals[1].mix: voice found, one of the classes chat, embed"),
        (("profile: 1", "profile: 9"), "profile: 9 found, up to 1; upgrade peaktape"),
        (("profile: 1", "profil: 1"), "profil found, only"),
        (("notes:", "notes: ["), ": "),
        (("family: weibull", "family: normal"), "arrivals[1].family: normal found"),
    ],
)
def test_a_profile_that_cannot_be_used_says_where(
    change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    text = profile_text(HAND_MADE)
    assert change[0] in text
    path = tmp_path / "p.yaml"
    path.write_text(text.replace(*change))
    with pytest.raises(BadInput) as refusal:
        read_profile(path)
    assert str(refusal.value).startswith(str(path))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_profile_of_more_than_can_be_held_is_refused_and_one_of_nothing_too() -> None:
    with pytest.raises(BadInput, match="--slice, or fewer users"):
        generate(HAND_MADE, np.random.default_rng(0), factor=1e9)
    with pytest.raises(BadInput, match="no session begins"):
        generate(HAND_MADE, np.random.default_rng(0), factor=1e-6)


def test_client_tables_become_as_many_streams_with_their_own_rates(tmp_path: Path) -> None:
    (tmp_path / "chunk-0-trace.csv").write_text(
        "0,2,1.5,Gamma,0.44,1.1\n600,0,0,,0,0\n1200,4,0.8,Weibull,1.2,3\n"
    )
    (tmp_path / "chunk-1-trace.csv").write_text("0,0,0,,0,0\n600,1,1,Gamma,1,1\n1200,0,0,,0,0\n")
    (tmp_path / "chunk-2-trace.csv").write_text("0,0,0,,0,0\n600,0,0,,0,0\n1200,0,0,,0,0\n")
    profile = read_client_tables(tmp_path)
    assert [stream.rate_per_s for stream in profile.arrivals] == [(2, 0, 4), (0, 1, 0)]
    assert profile.arrivals[0].family == ("gamma", "exponential", "weibull")
    assert any("assumed" in note for note in profile.notes)
    requests = generate(profile, np.random.default_rng(0))
    counts = np.bincount(requests.arrival_ns // (600 * S), minlength=3)
    assert counts == pytest.approx([1200, 600, 2400], rel=0.15)
    (tmp_path / "chunk-1-trace.csv").write_text("0,2,1.5,Cauchy,0.44,1.1\n")
    with pytest.raises(BadInput, match=r"chunk-1-trace.csv:1: family 'Cauchy' found"):
        read_client_tables(tmp_path)


def test_the_clients_of_a_real_table_keep_their_rates() -> None:
    profile = read_client_tables(real("servegen/deepseek-r1"))
    assert len(profile.arrivals) == 73
    requests = generate(profile, np.random.default_rng(0), slice_ns=(9 * 3600 * S, 10 * 3600 * S))
    wanted = sum(sum(s.rate_per_s[54:60]) * s.window_s for s in profile.arrivals)
    # An hour's count varies by so much: among the clients' gaps are some of CV 7.
    assert len(requests) == pytest.approx(wanted, rel=0.15)


def test_real_chats_come_back_with_their_turns_and_reuse(tmp_path: Path) -> None:
    rows = []
    for path in sorted(real("lmcache-agent-trace/taubench").glob("*.jsonl")):
        turns = [json.loads(line) for line in path.read_text().splitlines()]
        for number, turn in enumerate(sorted(turns, key=lambda turn: turn["timestamp"])):
            body = {"model": "m", "messages": [{"role": "user", "content": turn["input"]}]}
            rows.append(
                trace_row(
                    number,
                    turn["timestamp"] * 1000,
                    request_id=f"{path.stem}-{number}",
                    session_id=path.stem,
                    turn=number,
                    path="/v1/chat/completions",
                    request_body=json.dumps(body).encode(),
                    model="m",
                    output_tokens=max(1, len(turn["output"]) // 4),
                )
            )
    rows.sort(key=lambda row: row["arrival_ns"])
    zero = rows[0]["arrival_ns"]
    batch = batch_of([row | {"arrival_ns": row["arrival_ns"] - zero} for row in rows])
    write_trace(tmp_path / "t.parquet", [batch], TraceMetadata(wall_zero_ns=0, source="test"))
    trace = open_trace(tmp_path / "t.parquet")
    profile = fit(trace, 5, np.random.default_rng(0))
    requests = generate(profile, np.random.default_rng(0), factor=10.0)
    before = inspect_trace(trace)
    assert len(requests) == pytest.approx(10 * trace.rows, rel=0.25)  # 24 sessions tell no more
    turns = session_facts(requests.session, np.empty(0))
    assert turns.several_turns / turns.sessions > 0.8
    wanted = before.content.sessions
    mean = before.arrivals.rows / wanted.sessions
    assert len(requests) / turns.sessions == pytest.approx(mean, rel=0.25)
