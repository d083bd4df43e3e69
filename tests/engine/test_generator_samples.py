"""What a worker remembers of itself: bounded, and never losing the worst."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replay.engine.worker import MAX_SAMPLES, keep_worst


@given(st.integers(0, 3 * MAX_SAMPLES), st.randoms(use_true_random=False))
def test_the_worst_samples_stay_however_many_come(count: int, random) -> None:  # type: ignore[no-untyped-def]
    came = [random.randrange(10**9) for _ in range(count)]
    samples: list[int] = []
    for sample in came:
        keep_worst(samples, sample)
    assert len(samples) <= MAX_SAMPLES
    worst = sorted(came, reverse=True)[: MAX_SAMPLES // 2]
    assert sorted(samples, reverse=True)[: len(worst)] == worst
