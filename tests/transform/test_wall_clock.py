"""Times of day: what they mean in a trace, what is refused, and the slice and the shape that come of them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.trace_reader import Trace, open_trace
from replay.cli.transform_flags import Transformation
from replay.cli.transforming import plan_of
from replay.transform.making import Making
from replay.transform.recipe_file import read_recipe, recipe_text
from replay.transform.schedule_format import Lineage, Schedule
from replay.transform.wall_clock import WallClock, parse_wall, parse_window, show_instant
from tests.trace_rows import trace_row, write_rows

S = 1_000_000_000
DAY = 24 * 3600


def at(text: str) -> int:
    """Seconds since 1970."""
    return int(datetime.datetime.fromisoformat(f"2026-11-{text}+00:00").timestamp())


def clock(began: str, ended: str) -> WallClock:
    return WallClock("prod.parquet", at(began) * S, at(ended) * S)


MORNING = clock("27T09:50:20", "27T10:30:40")
THREE_DAYS = clock("26T08:00:00", "28T20:00:00")
NIGHT = clock("27T23:00:00", "28T01:00:00")


@pytest.mark.parametrize(
    ("text", "of", "start", "end"),
    [
        ("2026-11-27T09:55..2026-11-27T10:20", MORNING, "27T09:55:00", "27T10:20:00"),
        ("2026-11-27T09:55..10:20", MORNING, "27T09:55:00", "27T10:20:00"),
        ("2026-11-27 09:55 .. 10:20:30.5", MORNING, "27T09:55:00", "27T10:20:30.5"),
        ("09:55..10:20", MORNING, "27T09:55:00", "27T10:20:00"),
        ("10:55+01:00..11:20", MORNING, "27T09:55:00", "27T10:20:00"),  # the end in the start's zone
        ("10:55+01:00..10:20Z", MORNING, "27T09:55:00", "27T10:20:00"),
        ("2026-11-27t04:25:00-05:30..10:00z", MORNING, "27T09:55:00", "27T10:00:00"),
        ("09:50..10:31", MORNING, "27T09:50:20", "27T10:31:00"),  # these minutes are in part in the trace
        ("23:30..00:30", NIGHT, "27T23:30:00", "28T00:30:00"),
        ("00:30+01:00..01:30", NIGHT, "27T23:30:00", "28T00:30:00"),
        ("2026-11-27T10:00..10:05", THREE_DAYS, "27T10:00:00", "27T10:05:00"),
        ("2026-11-27T10:00..09:00", THREE_DAYS, "27T10:00:00", "28T09:00:00"),
    ],
)
def test_a_window_is_found_in_the_trace(text: str, of: WallClock, start: str, end: str) -> None:
    window = parse_window(text, "--slice")
    whole_s, _, part = end.partition(".")
    wanted = (at(start) * S - of.began_ns, at(whole_s) * S + int(f"{part:0<9}") - of.began_ns)
    assert of.window_ns(*window, "slice") == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "of", "said"),
    [
        (
            "08:00..09:55",
            MORNING,
            "slice: 08:00 UTC found, a time within prod.parquet wanted, which spans 2026-11-27T09:50:20Z to "
            "2026-11-27T10:30:40Z",
        ),
        ("09:55..11:00", MORNING, "slice: 11:00 UTC found, a time within prod.parquet wanted"),
        ("09:50:19..10:00", MORNING, "slice: 09:50:19 UTC found, a time within"),  # written to the second
        ("2026-11-27T09:55+01:00..10:00", MORNING, "slice: 2026-11-27T09:55+01:00 found, a time within"),
        ("2026-11-26T09:55..10:00", MORNING, "slice: 2026-11-26T09:55 UTC found, a time within"),
        ("2026-11-27T10:00..2026-11-27T09:55", MORNING, "..2026-11-27T09:55 found, a start before the end"),
        (
            "10:00..11:00",
            THREE_DAYS,
            "slice: 10:00 found, of which prod.parquet has 3: 2026-11-26T10:00:00Z, 2026-11-27T10:00:00Z, "
            "2026-11-28T10:00:00Z; write which",
        ),
        ("12:00..12:05", clock("01T00:00:00", "28T00:00:00"), "12:00:00Z and 23 more; write which"),
    ],
)
def test_what_lies_outside_or_several_times_within_is_refused(text: str, of: WallClock, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        of.window_ns(*parse_window(text, "--slice"), "slice")  # type: ignore[arg-type]
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["25:00..10:00", "09:55..tomorrow", "9:55..10:20", "10:00..15m", "2026-02-30T10:00..10:05", "09:55"],
)
def test_what_is_no_time_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--slice: .* found, .* wanted") as refused:
        parse_window(text, "--slice")
    assert "\n" not in str(refused.value)


@given(st.integers(0, 3 * DAY), st.integers(0, 3 * DAY), st.integers(-14 * 60, 14 * 60))
def test_a_time_of_day_is_an_instant_of_the_trace_that_reads_so_there(
    began_s: int, lasts_s: int, east_minutes: int
) -> None:
    of = WallClock("t", began_s * S, (began_s + lasts_s) * S)
    hours, minutes = divmod(abs(east_minutes), 60)
    zone = f"{'+' if east_minutes >= 0 else '-'}{hours:02}:{minutes:02}"
    wanted = f"12:34:56{zone}"
    east = datetime.timezone(datetime.timedelta(minutes=east_minutes))
    instants = [
        s
        for s in range(began_s - began_s % 60 - 4, began_s + lasts_s + 1, 60)  # those that end in :56
        if s >= began_s and f"{datetime.datetime.fromtimestamp(s, east):%H:%M:%S}" == "12:34:56"
    ]
    if len(instants) == 1:
        assert of.since_began_ns(parse_wall(wanted, "at"), "at") == (instants[0] - began_s) * S
        return
    with pytest.raises(BadInput) as refused:
        of.since_began_ns(parse_wall(wanted, "at"), "at")
    assert all(show_instant(s * S) in str(refused.value) for s in instants)
    assert ("write which" in str(refused.value)) == bool(instants)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A request a second from 09:59:30 on for two minutes; the first one can't be replayed."""
    rows = [trace_row(i, (i + 1) * S, outcome="complete") for i in range(121)]
    rows[0] |= {"outcome": "client_aborted", "request_body_ns": None, "request_body": None}
    folder = tmp_path_factory.mktemp("wall")
    return open_trace(write_rows(folder / "prod.parquet", rows, wall_zero_ns=at("27T09:59:28") * S))


def made(trace: Trace, asked: Transformation) -> tuple[Schedule, Lineage]:
    making = Making(trace, plan_of(asked))
    return Schedule.joined(list(making.pieces())), making.lineage()


def test_a_slice_by_the_clock_is_the_slice_by_durations(trace: Trace) -> None:
    by_clock, lineage = made(trace, Transformation(slice_="10:00..10:01", speed=2))
    by_time, _ = made(trace, Transformation(slice_="30s..90s", speed=2))
    assert by_clock.row.tolist() == by_time.row.tolist() == list(range(31, 91))
    assert by_clock.due_ns.tolist() == by_time.due_ns.tolist()
    assert "slice 2026-11-27T10:00:00Z..2026-11-27T10:01:00Z (30s..90s)" in lineage.steps


def test_a_spike_at_a_time_of_day_is_where_that_is_due(trace: Trace) -> None:
    asked = {"slice_": "09:59:45..10:01", "speed": 3.0}
    spiked, lineage = made(trace, Transformation(**asked, spikes=["at=10:00:15,for=5s,x=4"]))  # type: ignore[arg-type]
    by_time, _ = made(trace, Transformation(**asked, spikes=["at=10s,for=5s,x=4"]))  # type: ignore[arg-type]
    assert spiked.due_ns.tolist() == by_time.due_ns.tolist()
    assert spiked.phase.tolist() == by_time.phase.tolist()
    assert "spike at=10:00:15,for=5s,x=4 (10:00:15 is due at 10s)" in lineage.steps


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"spikes": ["at=09:00,for=5s,x=4"]}, "spike at=09:00,for=5s,x=4: 09:00 UTC found, a time within"),
        (
            {"slice_": "30s..60s", "spikes": ["at=10:01,for=5s,x=4"]},
            "a time within the slice of .*prod.parquet wanted, which spans 2026-11-27T10:00:00Z to "
            "2026-11-27T10:00:30Z",
        ),
        ({"spikes": ["at=10s,for=10:00,x=4"]}, "--spike for: '10:00' found, a duration"),
    ],
)
def test_a_shape_outside_of_what_is_replayed_is_refused(
    trace: Trace, asked: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        made(trace, Transformation(**asked))  # type: ignore[arg-type]


def test_a_trace_without_a_clock_says_so(tmp_path: Path) -> None:
    trace = open_trace(write_rows(tmp_path / "made.parquet", [trace_row(0, 0)], wall_zero_ns=0))
    with pytest.raises(BadInput, match=r"made\.parquet: does not say when it was recorded"):
        made(trace, Transformation(slice_="10:00..11:00"))


def test_recipes_take_times_of_day_as_flags_do(tmp_path: Path, trace: Trace) -> None:
    path = tmp_path / "r.yml"
    path.write_text(
        "slice: 10:00..2026-11-27T10:01:00Z\n"
        "shapes:\n  - spike: {at: 2026-11-27T10:00:20Z, for: 5s, x: 2}\n"  # which YAML takes for a timestamp
        "phases:\n  - {name: late, at: 10:00:40, for: 10s}\n"
    )
    plan = read_recipe(path)
    asked = Transformation(
        slice_="10:00..2026-11-27T10:01:00Z", spikes=["at=2026-11-27T10:00:20Z,for=5s,x=2"]
    )
    assert plan.slice_ == plan_of(asked).slice_
    making = Making(trace, plan)
    schedule = Schedule.joined(list(making.pieces()))
    late = schedule.due_ns[schedule.phase == making.lineage().phases.index("late")]
    assert late.tolist() == [second * S for second in range(40, 50)]
    again = tmp_path / "again.yml"
    again.write_text(recipe_text(plan))
    assert recipe_text(read_recipe(again)) == recipe_text(plan)
