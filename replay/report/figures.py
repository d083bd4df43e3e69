"""Numbers as text: durations, shares, changes, counts and rates, always with their unit.

Three significant digits, a true minus sign, and "–" for what can't be had. Which number is shown where is
not decided here.
"""

from __future__ import annotations

import math

MISSING = "–"
_UNITS: tuple[tuple[str, float], ...] = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


def format_number(value: float) -> str:
    """`value` with three significant digits, thousands grouped, and no exponent; "–" for NaN."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    if round(size, decimals) >= 10 ** (3 - decimals):  # 9.996 rounds up into the next decade
        decimals = max(0, decimals - 1)
    return f"{value:,.{min(decimals, 6)}f}".replace("-", "−")


def duration_unit(value_ns: float) -> tuple[str, float]:
    """The unit that suits `value_ns`, as (name, ns per unit); ms for zero and the infinite."""
    size = abs(value_ns)
    if size == 0 or not math.isfinite(size):
        return "ms", 1e6
    for name, factor in _UNITS:
        if size >= factor * 0.9995:  # what rounds to 1.00 of a unit is shown in that unit
            return name, factor
    return "ns", 1.0


def format_ns(value_ns: float) -> str:
    """A duration such as "12.3 ms"."""
    if not math.isfinite(value_ns):
        return format_number(value_ns)
    name, factor = duration_unit(value_ns)
    return f"{format_number(value_ns / factor)} {name}"


def format_change_ns(value_ns: float) -> str:
    """A signed difference of durations such as "+12.3 ms"."""
    return _signed(value_ns, format_ns(value_ns))


def format_pair_ns(baseline_ns: float, candidate_ns: float) -> str:
    """Two durations in one unit such as "101 → 140 ms"."""
    finite = [abs(value) for value in (baseline_ns, candidate_ns) if math.isfinite(value)]
    name, factor = duration_unit(max(finite, default=0.0))
    pair = f"{format_number(baseline_ns / factor)} → {format_number(candidate_ns / factor)}"
    return f"{pair} {name}" if finite else pair


def format_interval_ns(low_ns: float, high_ns: float) -> str:
    """Two signed ends in one unit such as "+28.0 … +30.3 ms"; "–" when neither can be had."""
    if math.isnan(low_ns) and math.isnan(high_ns):
        return MISSING
    finite = [abs(value) for value in (low_ns, high_ns) if math.isfinite(value)]
    name, factor = duration_unit(max(finite, default=0.0))
    low, high = (_signed(value, format_number(value / factor)) for value in (low_ns, high_ns))
    return f"{low} … {high} {name}" if finite else f"{low} … {high}"


def format_ratio(value: float) -> str:
    """A share such as 0.0123 as "1.23 %"."""
    if not math.isfinite(value):
        return format_number(value)
    return f"{format_number(value * 100)} %"


def format_bound(value: float) -> str:
    """A share that somebody stated, as short as it was stated: 0.02 is "2 %"."""
    return f"{value * 100:.6g} %"


def format_change_ratio(value: float, *, unit: bool = True) -> str:
    """A signed relative change such as "+38.6 %": one decimal below 100 %, none from there on."""
    if not math.isfinite(value):
        return _signed(value, format_number(value))
    percent = value * 100
    digits = 0 if abs(percent) >= 99.95 else 1
    text = f"{percent:+,.{digits}f}".replace("-", "−")
    if float(f"{percent:.{digits}f}") == 0:
        text = text.lstrip("+−")
    return f"{text} %" if unit else text


def format_interval_ratio(low: float, high: float) -> str:
    """Two signed relative changes such as "+28.0 … +30.3", in %; "–" where there is no interval."""
    if math.isnan(low):
        return MISSING
    return f"{format_change_ratio(low, unit=False)} … {format_change_ratio(high, unit=False)}"


def format_p_value(value: float) -> str:
    """A p-value with three decimals."""
    if math.isnan(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_count(value: int) -> str:
    """A count with its thousands grouped."""
    return f"{value:,}"


def format_rate(value: float) -> str:
    """Events per second such as "102/s"."""
    return MISSING if math.isnan(value) else f"{format_number(value)}/s"


def format_seconds(value_s: float) -> str:
    """A span such as "12.4 s", or "3 min 05 s" from two minutes on."""
    if not math.isfinite(value_s) or value_s < 120:
        return format_ns(value_s * 1e9)
    minutes, seconds = divmod(round(value_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def format_quantile(quantile: float) -> str:
    """A quantile's name: 0.99 is "p99", 0.999 is "p99.9"."""
    return f"p{quantile * 100:.10g}"


def relative(part: float, whole: float) -> float:
    """`part` as a share of `whole`; NaN where that says nothing."""
    return part / whole if whole > 0 and math.isfinite(whole) else math.nan


def _signed(value: float, text: str) -> str:
    return f"+{text}" if value > 0 else text
