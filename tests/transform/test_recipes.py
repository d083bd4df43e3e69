"""Recipes: what they say, what is refused in them and where, and the ten that people need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.trace_reader import open_trace
from replay.cli.transform_flags import Transformation
from replay.cli.transforming import plan_of, planned
from replay.transform.content_rules import CLONES, HITS, KEEP, UNIQUE, ContentRules
from replay.transform.mixing import Mix, TenantLimit
from replay.transform.moments import Share
from replay.transform.plan import NamedPhase, Plan
from replay.transform.recipe_file import read_recipe, recipe_text
from replay.transform.schedule_format import read_schedule, schedule_fingerprint, write_schedule
from replay.transform.shapes import Quiet, Ramp, Spike, Stairs, Wave

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "demo-traffic.parquet"
RECIPES = ROOT / "samples" / "recipes"
S = 1_000_000_000

ALL_OF_IT = """\
about: all of
  it
seed: 7
slice: 10m..15m
speed: 5
thin: 25%
amplify: 1.5
unsample: yes
method: tied
jitter: 250ms
mix:
  - {x: 2, min_input_tokens: 4000, keep_total: true}
shapes:
  - ramp: {at: 0, for: 1m, from: 0.5, to: 1}
  - spike:
      at: 25%
      for: 10%
      x: 4
      form: decay
      name: launch
      endpoint: /v1/*
phases:
  - {name: after, at: 50%, for: 50%}
limits:
  - {tenant: x-tenant, per_s: 5, burst: 10}
content:
  prompts: {prefix_hits: 60%}
  prompt_length: 1.5
  answer_length: 2
  models: {old: new, "*": small}
  endpoints: {/v1/a: /v1/b}
"""


def recipe(folder: Path, text: str) -> Path:
    path = folder / "r.yml"
    path.write_text(text)
    return path


def test_a_recipe_holds_a_whole_transformation(tmp_path: Path) -> None:
    assert read_recipe(recipe(tmp_path, ALL_OF_IT)) == Plan(
        slice_=(600 * S, 900 * S),
        speed=5.0,
        thin=0.25,
        amplify=1.5,
        unsample=True,
        method="tied",
        jitter_ns=S // 4,
        mix=(Mix(x=2.0, min_input_tokens=4000, keep_total=True),),
        shapes=(
            Ramp(0, 60 * S, 0.5, 1.0),
            Spike(Share(0.25), Share(0.1), 4.0, form="decay", name="launch", endpoint="/v1/*"),
        ),
        limits=(TenantLimit(tenant="x-tenant", per_s=5.0, burst=10),),
        phases=(NamedPhase("after", Share(0.5), Share(0.5)),),
        content=ContentRules(HITS, 0.6, 1.5, 2.0, (("old", "new"), ("*", "small")), (("/v1/a", "/v1/b"),)),
        seed=7,
        about="all of it",
    )


def test_an_empty_recipe_is_the_plan_of_no_flags(tmp_path: Path) -> None:
    assert read_recipe(recipe(tmp_path, "")) == plan_of(Transformation()) == Plan()


moments = st.one_of(st.integers(1, 10**14), st.integers(1, 99).map(lambda percent: Share(percent / 100)))
xs = st.floats(0.01, 100).map(lambda x: float(f"{x:.6g}"))
names = st.sampled_from([None, "launch", "on", "1", "null", "a: b", "x # y", "'", "späte Phase"])
shapes = st.one_of(
    st.builds(Spike, moments, moments, xs, name=names, form=st.sampled_from(["step", "gaussian"])),
    st.builds(Ramp, moments, moments, xs, xs),
    st.builds(Quiet, moments, moments, st.just(0.0)),
    st.builds(Stairs, start_x=xs, end_x=xs, steps=st.integers(1, 60)),
    st.builds(Wave, period=moments, low=st.just(0.25), high=st.just(2.0), crest=st.none() | moments),
)
contents = st.builds(
    ContentRules,
    prompts=st.sampled_from([KEEP, CLONES, UNIQUE]),
    prompt_length=xs,
    models=st.sampled_from([(), (("gpt-4", "demo"), ("*", "1.5"))]),
)
plans = st.builds(
    Plan,
    slice_=st.none() | st.just((S, 90 * S)),
    speed=xs,
    amplify=xs,
    shapes=st.lists(shapes, max_size=3).map(tuple),
    mix=st.just(()) | st.just((Mix(x=2.0, model="m 1", keep_total=True), Mix(x=0.0, tenant="x-t:1"))),
    limits=st.just(()) | st.just((TenantLimit(tenant="x-t", per_s=0.5),)),
    content=contents | st.just(ContentRules(HITS, 0.35)),
    seed=st.integers(0, 2**40),
    about=st.sampled_from(["", "a plan: with # signs"]),
)


@settings(max_examples=60, deadline=None)
@given(plans)
def test_a_plan_printed_as_a_recipe_reads_back_as_itself(plan: Plan) -> None:
    import io

    from ruamel.yaml import YAML

    from replay.transform.recipe_file import plan_in

    text = recipe_text(plan)
    try:
        found = plan_in(YAML(typ="rt").load(io.StringIO(text)), "here")
    except BadInput:  # names were drawn without a look at the windows, which may overlap
        assume(len({shape.name for shape in plan.shapes} - {None}) < 2)
        raise
    assert found == plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speed: 0", ":1: speed: 0 found, a number above 0 wanted"),
        ("speed: fast", ":1: speed: fast found, a number above 0 wanted"),
        ("\namplify: 0", ":2: amplify: 0 found"),
        ("amplify: 2\nmethod: magic", ":2: method: 'magic' found, one of auto, jitter"),
        ("thin: 0%", ":1: --thin: 0 found, a share above 0"),
        ("seed: -1", ":1: seed: '-1' found"),
        ("slice: 5s..2s", ":1: slice: '5s..2s' found, a start before the end wanted"),
        ("sped: 5", ":1: 'sped' found, one of about, seed, slice"),
        ("speed: 5\nspeed: 6", ":2: found duplicate key"),
        ("speed: [5]", ":1: speed: a list found, a value wanted"),
        ("- speed", ":1: the recipe: a list found, a mapping with"),
        ("speed: 5\n  x: 1", ":2: mapping values are not allowed"),
        ("shapes: 5", ":1: shapes: 5 found, a list wanted"),
        ("shapes:\n  - peak: {at: 1s}", ":2: 'peak' found, one of spike, ramp"),
        ("shapes:\n  - spike", ":2: 'spike' found, one of spike, ramp, wave"),
        ("shapes:\n  - spike: {at: 1s, for: 2s}", ":2: spike: lacks x"),
        (
            "shapes:\n  - spike:\n      at: 1s\n      for: 0\n      x: 2",
            ":4: spike for: 0 found, more than 0",
        ),
        ("shapes:\n  - spike: {at: 1s, for: 2s, x: 0}", ":2: spike x: 0 found, a number above 0 wanted"),
        (
            "shapes:\n  - spike: {at: 1s, for: 2s, x: 2, until: 3s}",
            ":2: spike until: found, one of at, for, x",
        ),
        ("shapes:\n  - line: {points: 0s:0/9s:0}", ":2: line points=0:0/9s:0: factor 0 everywhere found"),
        ("mix:\n  - {x: 2}", ":2: mix x=2: nothing selected found"),
        (
            "mix:\n  - {x: 2, model: a, keep_total: yes}\n  - {x: 2, model: b, keep_total: yes}",
            ":1: mix: keep_total found in several",
        ),
        ("limits:\n  - {tenant: x-tenant}", ":2: limit: lacks per_s"),
        (
            "content:\n  prompts: odd",
            ":2: prompts: 'odd' found, keep, clones, unique, or {prefix_hits: 60%} wanted",
        ),
        ("content:\n  prompts: {prefix_hits: 160%}", ":2: prefix_hits: '160%' found, a share"),
        ("content:\n  prompt_length: 0", ":2: prompt_length: 0 found"),
        ("content:\n  endpoints: {chat: /v1/chat}", ":1: endpoints: chat to /v1/chat found, two paths"),
        (
            "phases:\n  - {name: a, at: 0s, for: 20s}\n  - {name: b, at: 10s, for: 20s}",
            ":3: phase b overlaps a of line 2; what is due in both can't be told apart",
        ),
        (
            "shapes:\n  - spike: {at: 9%, for: 9%, x: 2, name: a}\nphases:\n  - {name: b, at: 0%, for: 11%}",
            ":4: phase b overlaps a of line 2",
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = recipe(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        read_recipe(path)
    assert str(refused.value).startswith(f"{path}{said}")
    assert "\n" not in str(refused.value)


def test_a_recipe_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yml: can't be read .*; a recipe wanted"):
        read_recipe(tmp_path / "none.yml")
    with pytest.raises(BadInput, match="not UTF-8 text; a recipe"):
        read_recipe(SAMPLE)


def test_flags_replace_a_recipes_values_and_add_steps(tmp_path: Path) -> None:
    path = recipe(tmp_path, ALL_OF_IT)
    plan = plan_of(
        Transformation(recipe=path, speed=2, seed=0, spikes=["at=1s,for=2s,x=3"], unique_prompts=True)
    )
    assert (plan.speed, plan.seed, plan.amplify, plan.content.prompts) == (2, 0, 1.5, UNIQUE)
    assert [shape.word for shape in plan.shapes] == ["ramp", "spike", "spike"]
    with pytest.raises(BadInput, match="--unique-prompts and --prefix-hits: contradict each other"):
        plan_of(Transformation(unique_prompts=True, prefix_hits="50%"))
    with pytest.raises(BadInput, match=r"--shape: 'peak' found, one of spike, ramp"):
        plan_of(Transformation(shapes=["peak x=2"]))
    with pytest.raises(BadInput, match="--map-model: 'new' found, OLD=NEW wanted"):
        plan_of(Transformation(map_model=["new"]))


# Per phase, the mean factor over its time that the recipe's curve has there (integrated by hand).
DECAY = (1 - np.exp(-3)) / 3
GAUSSIAN = 0.4166
EXPECTED: dict[str, dict[str, float]] = {
    "cache-cold-start": {"cold": 0.55, "base": 1},
    "failover-to-half": {"whole-fleet": 1, "half-the-fleet": 2, "half-the-fleet-recover": 1},
    "nine-oclock-monday": {"early": 0.25, "nine-o-clock": (0.5 * 3.3 + 0.75 * 5) / 2.5, "plateau": 1.9},
    "noisy-neighbour": {"base": 1, "noisy-recover": 1},
    "product-launch": {},  # its mix changes all of it: see below
    "quiet-hour": {"base": 1, "quiet": 0.1, "return": 1.5},
    "retry-storm": {"base": 1, "retries": 1 + 4 * DECAY, "retries-recover": 1},
    "soak": {"fresh": 1, "worn": 1},
    "staircase": {f"x{0.5 * step:.3g}": 0.5 * step for step in range(1, 9)},
    "viral-spike": {"base": 1},
}


@pytest.fixture(scope="module")
def sample() -> Any:
    return open_trace(SAMPLE)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_ten_recipes_do_what_they_say(sample: Any, name: str) -> None:
    """Counts of each phase against the base traffic there times the recipe's factor: 5 standard deviations
    of a count whose requests are each there or not, and 12 % for the base's own unevenness in the window."""
    plan = plan_of(Transformation(recipe=RECIPES / f"{name}.yml", amplify=8, jitter="100ms"))
    schedule, lineage = planned(sample, plan)
    plain, _ = planned(sample, plan_of(Transformation(amplify=8, jitter="100ms")))
    assert lineage.recipe == recipe_text(plan)
    assert plan.about
    for phase, factor in EXPECTED[name].items():
        mine = schedule.phase == lineage.phases.index(phase)
        # Where the phase lies: between changes of phase, of what is due.
        starts = np.flatnonzero(np.diff(np.concatenate([[False], mine, [False]]).astype(np.int8)) == 1)
        ends = np.flatnonzero(np.diff(np.concatenate([[False], mine, [False]]).astype(np.int8)) == -1)
        base = sum(
            int(((plain.due_ns >= schedule.due_ns[a]) & (plain.due_ns <= schedule.due_ns[b - 1])).sum())
            for a, b in zip(starts, ends, strict=True)
        )
        count, wanted = int(mine.sum()), base * factor
        assert abs(count - wanted) <= 5 * np.sqrt(wanted) + 0.12 * wanted, (phase, count, wanted)


def test_every_recipe_of_the_samples_is_tested() -> None:
    assert {path.stem for path in RECIPES.glob("*.yml")} == set(EXPECTED)


def test_a_viral_spike_is_on_its_endpoint_alone_and_a_launch_brings_short_requests(sample: Any) -> None:
    rows = sample.take(np.arange(sample.rows), ["path", "input_tokens"]).to_pydict()
    viral, lineage = planned(sample, plan_of(Transformation(recipe=RECIPES / "viral-spike.yml")))
    chat = np.array(rows["path"]) == "/v1/chat/completions"
    assert set(viral.row[viral.copy > 0]) <= set(np.flatnonzero(chat))
    assert np.isin(np.flatnonzero(~chat), viral.row).all()
    spiked = chat[viral.row] & (viral.phase == lineage.phases.index("viral"))
    in_window = np.unique(viral.row[spiked])
    # 1 + 14 · 0.417 times the chats, with the spread of the Gaussian's middle over few requests.
    assert spiked.sum() / len(in_window) == pytest.approx(1 + 14 * GAUSSIAN, rel=0.15)
    launch, lineage = planned(
        sample, plan_of(Transformation(recipe=RECIPES / "product-launch.yml", amplify=20))
    )
    short = np.array([tokens is not None and tokens <= 300 for tokens in rows["input_tokens"]])
    sessions = {
        name: np.unique(schedule.session[short[schedule.row]]).size
        for name, schedule in (
            ("launch", launch),
            ("plain", planned(sample, plan_of(Transformation(amplify=20)))[0]),
        )
    }
    assert sessions["launch"] > 2 * sessions["plain"]
    after = launch.phase == lineage.phases.index("launch")
    per_s = np.bincount((launch.due_ns[after] - launch.due_ns[after][0]) // S)
    assert per_s[:3].mean() > 2.5 * per_s[-6:-1].mean()  # 8 times, falling to 1.35 times


def test_what_a_schedule_carries_survives_its_file(tmp_path: Path, sample: Any) -> None:
    plan = plan_of(Transformation(recipe=RECIPES / "retry-storm.yml", map_model=["*=demo-chat"]))
    schedule, lineage = planned(sample, plan)
    write_schedule(tmp_path / "s.parquet", schedule, lineage)
    found, read = read_schedule(tmp_path / "s.parquet")
    assert read == lineage
    assert read.phases == ("base", "outage", "retries", "retries-recover")
    assert ContentRules.from_json(read.rewrite["content"]) == plan.rules
    assert "model * to demo-chat" in read.steps
    assert schedule_fingerprint(found, read) == schedule_fingerprint(schedule, lineage)
    # What is said is part of what may be compared: another model, another schedule.
    other = planned(sample, plan_of(Transformation(recipe=RECIPES / "retry-storm.yml")))[1]
    assert schedule_fingerprint(found, read) != schedule_fingerprint(found, other)
