"""ServeGen's client tables → a profile: one stream of arrivals per client, rate and shape per window.

Source: github.com/alibaba/ServeGen, data/*/*/chunk-*-trace.csv (arXiv 2505.09999). No header; columns
window start (s), rate (requests/s), CV of the gaps, family (Gamma or Weibull), shape, scale. A table holds no
lengths: those come from another profile, or are assumed.
"""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path
from typing import Final

from capture.failures import BadInput
from replay.transform.profile import EXPONENTIAL, GAMMA, WEIBULL, Arrivals, ClientClass, Profile, Quantiles

_FAMILIES: Final = {"gamma": GAMMA, "weibull": WEIBULL, "exponential": EXPONENTIAL, "": EXPONENTIAL}
_CV_RANGE: Final = (0.02, 50.0)
_COLUMNS: Final = "window start, rate, CV, family, shape, scale"
ASSUMED: Final = ClientClass(
    kind="chat",
    model="default",
    stream=True,
    input_tokens=Quantiles((0.0, 0.5, 0.9, 0.99, 1.0), (8, 512, 2048, 8192, 16384)),
    output_tokens=Quantiles((0.0, 0.5, 0.9, 0.99, 1.0), (1, 192, 640, 1536, 4096)),
)
"""What a client asks for where nobody said: a guess, and told as one."""
ASSUMED_NOTE: Final = (
    "the client tables hold no lengths: those of class-1 are assumed; "
    "put yours into `classes`, or fit with --like"
)


def is_client_table(path: Path) -> bool:
    """Whether `path` is a table, or a folder that holds some."""
    return bool(_tables(path))


def read_client_tables(path: Path, like: Profile | None = None) -> Profile:
    """The profile of the table or of all tables in the folder `path`, with the classes of `like`.

    Raises `BadInput` with file, line, found and wanted.
    """
    classes = like.classes if like is not None else {"class-1": ASSUMED}
    mix = like.arrivals[0].mix if like is not None else {"class-1": (1.0,)}
    whole: dict[str, tuple[float, ...]] = {
        label: (sum(shares) / len(shares),) for label, shares in mix.items()
    }
    streams = [stream for table in _tables(path) if (stream := _read(table, whole)) is not None]
    if not streams:
        raise BadInput(f"{path}: no client with a rate above 0 found; at least one wanted")
    notes = (f"{len(streams)} clients", *(() if like is not None else (ASSUMED_NOTE,)))
    return Profile(tuple(streams), classes, "client tables", 1, notes)


def _tables(path: Path) -> list[Path]:
    if path.is_dir():
        found = [one for one in path.glob("*.csv") if one.name.endswith("-trace.csv")]
        return sorted(found, key=lambda one: [int(n) for n in re.findall(r"\d+", one.name)])
    return [path] if path.suffix == ".csv" else []


def _read(path: Path, mix: dict[str, tuple[float, ...]]) -> Arrivals | None:
    starts, rates, cvs, families = [], [], [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line, cells in enumerate(csv.reader(file), start=1):
                if not cells:
                    continue
                place = f"{path}:{line}"
                if len(cells) != 6:
                    raise BadInput(f"{place}: {len(cells)} columns found, 6 wanted ({_COLUMNS})")
                rate = _number(cells[1], f"{place}: rate")
                starts.append(_number(cells[0], f"{place}: window start"))
                rates.append(rate)
                family = cells[3].strip().lower()
                if family not in _FAMILIES:
                    raise BadInput(f"{place}: family {cells[3][:20]!r} found, Gamma or Weibull wanted")
                cv = _number(cells[2], f"{place}: CV") if rate and cells[2] else 1.0
                cvs.append(min(max(cv, _CV_RANGE[0]), _CV_RANGE[1]))
                families.append(_FAMILIES[family] if rate else EXPONENTIAL)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read ({error}); a client table (CSV) wanted") from error
    if not any(rates):
        return None
    return Arrivals(_width(starts, path), tuple(rates), mix, tuple(families), tuple(cvs))


def _width(starts: list[float], path: Path) -> float:
    widths = {round(after - before, 6) for before, after in itertools.pairwise(starts)}
    if len(widths) != 1 or min(widths) <= 0:
        raise BadInput(f"{path}: windows of several lengths or one alone found; equal, ascending ones wanted")
    return widths.pop()


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise BadInput(f"{place}: {text[:30]!r} found, a number ≥ 0 wanted")
    return value
