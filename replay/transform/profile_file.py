"""A profile as YAML: written for people to read and change, and read back with every value checked.

The format: `profile: 1`, then `origin`, `at_least`, `notes`, `classes` (by name) and `arrivals` (a list). A
distribution is a mapping of levels to values: `{p0: 1, p50: 220, p100: 4100}`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capture.__about__ import VERSION
from capture.failures import BadInput
from capture.importers.synthetic_prompt import MOST_TOKENS
from replay.transform.profile import (
    AT_LEAST,
    EXPONENTIAL,
    FAMILIES,
    PATHS,
    Arrivals,
    Burst,
    ClientClass,
    Profile,
    Quantiles,
    SharedPrefix,
)

FORMAT_VERSION: Final = 1
_MOST_RATE: Final = 1e9
_HEAD: Final = """\
# A traffic profile by peaktape {version}: `peaktape generate THIS_FILE -o trace.parquet` makes its like.
# It holds no word of a prompt, no id, no host, no header and no path of the traffic it was made of. Every
# figure in it stands for {at_least} requests or sessions at the least; model names are the traffic's own
# unless it was made with --no-names.
"""


def profile_text(profile: Profile) -> str:
    """The profile as YAML text, lists and distributions on one line each."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 1_000_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(_document(profile), out)
    return _HEAD.format(version=VERSION, at_least=profile.at_least) + out.getvalue()


def write_profile(path: Path, profile: Profile, *, overwrite: bool = False) -> None:
    """Write the profile, whole or not at all; raises `BadInput` if `path` exists already."""
    from capture.trace_writer import replace_when_whole

    with replace_when_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(profile_text(profile), "utf-8")


def read_profile(path: Path) -> Profile:
    """The profile in the YAML file `path`; raises `BadInput` with place, found and wanted."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="safe").load(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); a profile wanted") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start}: not UTF-8 text; a profile (YAML) wanted") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise BadInput(f"{path}{line}: {problem}; valid YAML wanted") from error
    except (YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}; valid YAML wanted") from error
    except RecursionError as error:
        raise BadInput(
            f"{path}: lists or mappings in one another beyond measure; a profile wanted"
        ) from error
    return _Reader(str(path)).profile(document)


def _document(profile: Profile) -> dict[str, Any]:
    return {
        "profile": FORMAT_VERSION,
        "origin": profile.origin,
        "at_least": profile.at_least,
        "notes": list(profile.notes),
        "classes": {label: _class_document(one) for label, one in profile.classes.items()},
        "arrivals": [_arrivals_document(stream) for stream in profile.arrivals],
    }


def _class_document(one: ClientClass) -> dict[str, Any]:
    distributions = {
        name: _levels(getattr(one, name))
        for name in ("input_tokens", "output_tokens", "growth_tokens", "answer_s", "think_s", "repeated")
        if getattr(one, name) is not None
    }
    return {
        "kind": one.kind,
        "model": one.model,
        "stream": one.stream,
        **distributions,
        "rank_correlation": one.rank_correlation,
        "turns": dict(one.turns),
        "keeps_history": one.keeps_history,
        "repeats": one.repeats,
        "prefixes": [{"share": prefix.share, "tokens": prefix.tokens} for prefix in one.prefixes],
    }


def _arrivals_document(stream: Arrivals) -> dict[str, Any]:
    return {
        "window_s": _short(stream.window_s),
        "family": stream.family[0] if len(stream.family) == 1 else list(stream.family),
        "cv": _short(stream.cv[0]) if len(stream.cv) == 1 else [_short(value) for value in stream.cv],
        "bursts": [{"scale_s": _short(b.scale_s), "variance": _short(b.variance)} for b in stream.bursts],
        "mix": {label: [_short(share) for share in shares] for label, shares in stream.mix.items()},
        "rate_per_s": [_short(value) for value in stream.rate_per_s],
    }


def _levels(quantiles: Quantiles) -> dict[str, float]:
    return {
        f"p{level * 100:.6g}": _short(value)
        for level, value in zip(quantiles.levels, quantiles.values, strict=True)
    }


def _short(value: float) -> float:
    """Whole numbers as such: they read better."""
    return int(value) if value == int(value) else float(f"{value:.6g}")


class _Reader:
    """Turns the loaded document into a profile; names the place of whatever it refuses."""

    def __init__(self, path: str) -> None:
        self._path = path

    def profile(self, found: Any) -> Profile:
        top = self._mapping(
            found, "the file", ("profile", "origin", "at_least", "notes", "classes", "arrivals"), ("profile",)
        )
        version = self._number(top["profile"], "profile", 1, math.inf)
        if version > FORMAT_VERSION:
            raise self._refused("profile", top["profile"], f"up to {FORMAT_VERSION}; upgrade peaktape")
        classes = self._named(top.get("classes"), "classes")
        read = {label: self._class(one, f"classes.{label}") for label, one in classes.items()}
        streams = self._list(top.get("arrivals"), "arrivals", least=1)
        return Profile(
            arrivals=tuple(self._arrivals(one, f"arrivals[{i}]", read) for i, one in enumerate(streams)),
            classes=read,
            origin=str(top.get("origin", "")),
            at_least=int(self._number(top.get("at_least", AT_LEAST), "at_least", 1, 1e9)),
            notes=tuple(map(str, self._list(top.get("notes", []), "notes"))),
        )

    def _class(self, found: Any, place: str) -> ClientClass:
        plain = ("kind", "model", "stream", "rank_correlation", "turns", "keeps_history", "repeats")
        spread = ("input_tokens", "output_tokens", "growth_tokens", "answer_s", "think_s", "repeated")
        one = self._mapping(found, place, (*plain, *spread, "prefixes"), ("kind", "model", "input_tokens"))
        if one["kind"] not in PATHS:
            raise self._refused(f"{place}.kind", one["kind"], f"one of {', '.join(PATHS)}")
        if not isinstance(one.get("stream", False), bool):
            raise self._refused(f"{place}.stream", one["stream"], "true or false")
        turns = self._named(one.get("turns", {1: 1.0}), f"{place}.turns")
        shared = self._list(one.get("prefixes", []), f"{place}.prefixes")
        return ClientClass(
            kind=one["kind"],
            model=str(one["model"]),
            stream=one.get("stream", False),
            **{
                name: self._quantiles(one[name], f"{place}.{name}", name)
                for name in spread
                if one.get(name) is not None
            },
            rank_correlation=self._number(
                one.get("rank_correlation", 0.0), f"{place}.rank_correlation", -1, 1
            ),
            turns={
                int(self._number(turn, f"{place}.turns", 1, 10_000)): self._number(
                    share, f"{place}.turns.{turn}", 0, _MOST_RATE
                )
                for turn, share in turns.items()
            },
            keeps_history=self._number(one.get("keeps_history", 0.0), f"{place}.keeps_history", 0, 1),
            repeats=self._number(one.get("repeats", 0.0), f"{place}.repeats", 0, 1),
            prefixes=tuple(self._prefix(p, f"{place}.prefixes[{i}]") for i, p in enumerate(shared)),
        )

    def _prefix(self, found: Any, place: str) -> SharedPrefix:
        one = self._mapping(found, place, ("share", "tokens"), ("share", "tokens"))
        share = self._number(one["share"], f"{place}.share", 0, 1)
        return SharedPrefix(share, int(self._number(one["tokens"], f"{place}.tokens", 1, MOST_TOKENS)))

    def _arrivals(self, found: Any, place: str, classes: Mapping[str, ClientClass]) -> Arrivals:
        names = ("window_s", "family", "cv", "bursts", "mix", "rate_per_s")
        one = self._mapping(found, place, names, ("window_s", "rate_per_s", "mix"))
        rate = self._numbers(one["rate_per_s"], f"{place}.rate_per_s", 0, _MOST_RATE)
        if not sum(rate):
            raise self._refused(f"{place}.rate_per_s", "0 throughout", "a rate above 0 in some window")
        mix = self._named(one["mix"], f"{place}.mix")
        for label in mix:
            if label not in classes:
                raise self._refused(f"{place}.mix", label, f"one of the classes {', '.join(classes)}")
        shares = {
            label: self._numbers(parts, f"{place}.mix.{label}", 0, 1e9, single=True)
            for label, parts in mix.items()
        }
        if len(set(map(len, shares.values()))) > 1 or not all(map(sum, zip(*shares.values(), strict=False))):
            raise self._refused(f"{place}.mix", "shares", "as many of each class, not all 0 in any part")
        families = self._per_window(one.get("family", EXPONENTIAL), f"{place}.family", len(rate))
        for family in families:
            if family not in FAMILIES:
                raise self._refused(f"{place}.family", family, f"one of {', '.join(FAMILIES)}")
        cvs = self._per_window(one.get("cv", 1.0), f"{place}.cv", len(rate))
        bursts = self._list(one.get("bursts", []), f"{place}.bursts")
        return Arrivals(
            window_s=self._number(one["window_s"], f"{place}.window_s", 1e-3, 1e9),
            rate_per_s=rate,
            mix=shares,
            family=tuple(families),
            cv=tuple(self._number(cv, f"{place}.cv", 0.02, 50) for cv in cvs),
            bursts=tuple(self._burst(burst, f"{place}.bursts[{i}]") for i, burst in enumerate(bursts)),
        )

    def _burst(self, found: Any, place: str) -> Burst:
        one = self._mapping(found, place, ("scale_s", "variance"), ("scale_s", "variance"))
        scale_s = self._number(one["scale_s"], f"{place}.scale_s", 1e-3, 1e9)
        return Burst(scale_s, self._number(one["variance"], f"{place}.variance", 1e-9, 1e6))

    def _quantiles(self, found: Any, place: str, name: str) -> Quantiles:
        low, high = (-MOST_TOKENS if name == "growth_tokens" else 0.0), float(MOST_TOKENS)
        if name.endswith("_s"):
            low, high = -1e6, 1e6
        if name == "repeated":
            high = 1.0
        pairs = self._named(found, place)
        levels = []
        for key in pairs:
            try:
                levels.append(float(str(key).removeprefix("p")) / 100)
            except ValueError:
                raise self._refused(place, key, "levels such as p50") from None
        values = [self._number(value, f"{place}.{key}", low, high) for key, value in pairs.items()]
        if (
            not all(0 <= level <= 1 for level in levels)
            or sorted(levels) != levels
            or sorted(values) != values
        ):
            raise self._refused(place, "levels or values out of order", "both ascending, from p0 to p100")
        return Quantiles(tuple(levels), tuple(values))

    def _per_window(self, found: Any, place: str, windows: int) -> Sequence[Any]:
        values = found if isinstance(found, list) else [found]
        if len(values) not in (1, windows):
            raise self._refused(place, f"{len(values)} values", f"one, or one for each of {windows} windows")
        return values

    def _numbers(
        self, found: Any, place: str, low: float, high: float, *, single: bool = False
    ) -> tuple[float, ...]:
        values = [found] if single and not isinstance(found, list) else self._list(found, place, least=1)
        return tuple(self._number(value, f"{place}[{i}]", low, high) for i, value in enumerate(values))

    def _number(self, found: Any, place: str, low: float, high: float) -> float:
        if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
            wanted = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number from {low:g} on"
            raise self._refused(place, found, wanted)
        return float(found)

    def _list(self, found: Any, place: str, *, least: int = 0) -> list[Any]:
        if not isinstance(found, list) or len(found) < least:
            raise self._refused(place, found, "a list" + (" that isn't empty" if least else ""))
        return found

    def _named(self, found: Any, place: str) -> Mapping[Any, Any]:
        if not isinstance(found, dict) or not found:
            raise self._refused(place, found, "a mapping that isn't empty")
        return found

    def _mapping(
        self, found: Any, place: str, names: Iterable[str], needed: Iterable[str]
    ) -> Mapping[str, Any]:
        if not isinstance(found, dict):
            raise self._refused(place, found, f"a mapping with {', '.join(names)}")
        for name in found:
            if name not in names:
                raise self._refused(place, name, f"only {', '.join(names)}")
        for name in needed:
            if name not in found:
                raise self._refused(place, f"no {name}", f"{', '.join(needed)}")
        return found

    def _refused(self, place: str, found: Any, wanted: str) -> BadInput:
        shown = "nothing" if found is None else str(found)[:60]
        return BadInput(f"{self._path}: {place}: {shown} found, {wanted} wanted")
