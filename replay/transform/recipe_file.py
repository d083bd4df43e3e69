"""A recipe: a whole transformation as a YAML file, read with the line of whatever is wrong, and printed back.

`samples/recipes/` has ten. Keys are those of the flags; what a plan means is in `plan`, what each step's
settings are in its own module.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from capture.quantities import parse_duration_ns, parse_factor, parse_share, quoted
from capture.yaml_file import YamlReader, listed, load_yaml, told, yaml_text
from replay.transform.amplification.amplify import METHODS
from replay.transform.content_rules import CLONES, HITS, PROMPTS, ContentRules
from replay.transform.mixing import Mix, TenantLimit
from replay.transform.moments import Share, show_moment
from replay.transform.plan import DEFAULT_CONTENT, NamedPhase, Plan
from replay.transform.settings import YES_OR_NO, Settings, one_of, read, shown
from replay.transform.shapes import KINDS, Shape
from replay.transform.wall_clock import parse_window

KEYS: Final = (
    *("about", "seed", "slice", "speed", "thin", "amplify", "unsample", "method", "jitter"),
    *("mix", "shapes", "limits", "phases", "content"),
)
_SEED_DIGITS: Final = 1000
CONTENT_KEYS: Final = ("prompts", "prompt_length", "answer_length", "models", "endpoints")


def read_recipe(path: Path) -> Plan:
    """The plan in the YAML file `path`; raises `BadInput` with `file:line: found, wanted`."""
    return plan_in(load_yaml(path, "a recipe"), str(path))


def plan_in(document: Any, place: str) -> Plan:
    """The plan that a loaded YAML document says; `place` names it in errors."""
    return _Reader(place).plan({} if document is None else document)


class _Reader(YamlReader):
    """Turns the loaded document into a plan."""

    def plan(self, document: Any) -> Plan:
        top = self.mapping(document, "the recipe", KEYS)
        given: dict[str, Any] = {"about": " ".join(self.text(top, "about", "").split())}
        for key, field, parse in _SCALARS:
            if top.get(key) is not None:
                given[field] = parse(self._scalar(top, key), self._at(top, key))
        given["mix"] = tuple(self._step(Mix, item, line, "mix") for item, line in self.items(top, "mix"))
        given["shapes"] = tuple(self._shape(item, line) for item, line in self.items(top, "shapes"))
        given["limits"] = tuple(
            self._step(TenantLimit, item, line, "limit") for item, line in self.items(top, "limits")
        )
        given["phases"] = tuple(
            self._step(NamedPhase, item, line, "phase") for item, line in self.items(top, "phases")
        )
        self._check_overlap(top, given)
        given["content"] = self._content(self.below(top, "content", CONTENT_KEYS), self.line(top, "content"))
        return self._built(1, lambda: Plan(**given))

    def _shape(self, item: Any, line: int) -> Shape:
        if not isinstance(item, Mapping) or len(item) != 1:
            raise self.refused(
                line, f"{told(item)} found, one of {listed(tuple(KINDS))} and its settings wanted"
            )
        word, settings = next(iter(item.items()))
        if word not in KINDS:
            raise self.refused(line, f"{word!r} found, one of {listed(tuple(KINDS))} wanted")
        return self._step(KINDS[word], settings, line, word)

    def _step[S: Settings](self, step: type[S], found: Any, line: int, word: str) -> S:
        if not isinstance(found, Mapping):
            raise self.refused(line, f"{word}: {told(found)} found, its settings wanted")
        texts = {str(key): self._scalar(found, key) for key in found}

        def place(key: str) -> str:
            return f"{self.place}:{self.line(found, key) if key else line}: {word} {key}".rstrip()

        return self._built(line, lambda: read(step, texts, place))

    def _content(self, found: Mapping[str, Any], line: int) -> ContentRules:
        given: dict[str, Any] = {}
        prompts = found.get("prompts")
        if isinstance(prompts, Mapping):
            shares = self.mapping(prompts, "prompts", ("prefix_hits",), self.line(found, "prompts"))
            text = self._scalar(shares, "prefix_hits")
            given |= {"prompts": HITS, "hits": parse_share(text, self._at(shares, "prefix_hits"))}
        else:
            named = tuple(name for name in PROMPTS if name != HITS)
            if prompts is not None and prompts not in named:
                wanted = f"{listed(named)}, or {{prefix_hits: 60%}} wanted"
                raise self.refused(self.line(found, "prompts"), f"prompts: {told(prompts)} found, {wanted}")
            given["prompts"] = CLONES if prompts is None else str(prompts)
        for key in ("prompt_length", "answer_length"):
            if key in found:
                given[key] = parse_factor(self._scalar(found, key), self._at(found, key))
        for key in ("models", "endpoints"):
            renames = self._renames(found, key)
            given[key] = renames
        return self._built(line, lambda: ContentRules(**given))

    def _renames(self, holder: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...]:
        found = holder.get(key)
        if found is None:
            return ()
        if not isinstance(found, Mapping):
            raise self.refused(self.line(holder, key), f"{key}: {told(found)} found, OLD: NEW wanted")
        return tuple((str(old), self._scalar(found, old)) for old in found)

    def _check_overlap(self, top: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Refuse named phases that overlap, as far as that shows before the replay's span is known."""
        named: list[tuple[str, float, float, bool, int]] = []
        for key in ("shapes", "phases"):
            for step, (_, line) in zip(given[key], self.items(top, key), strict=True):
                if step.name is None or step.lasting is None:
                    continue
                at, lasting = step.at, step.lasting
                if isinstance(at, Share) and isinstance(lasting, Share):
                    start, length = at.of_span, lasting.of_span
                elif isinstance(at, int) and isinstance(lasting, int):
                    start, length = at, lasting
                else:
                    continue
                named.append((step.name, start, start + length, isinstance(at, Share), line))
        for name, start, end, share, line in named:
            for other, other_start, other_end, other_share, other_line in named:
                if share != other_share or line <= other_line or name == other:
                    continue
                if start < other_end - 1e-12 and other_start < end - 1e-12:
                    raise self.refused(
                        line,
                        f"phase {name} overlaps {other} of line {other_line}; what is due in both can't be "
                        "told apart: move one, or leave one of the names out",
                    )

    def _scalar(self, holder: Mapping[str, Any], key: str) -> str:
        found = holder.get(key)
        if isinstance(found, bool):
            return "yes" if found else "no"
        if isinstance(found, datetime.datetime):  # YAML knows times with a day and seconds
            return found.isoformat()
        if not isinstance(found, str | int | float):
            raise self.refused(self.line(holder, key), f"{key}: {told(found)} found, a value wanted")
        return str(found)

    def _at(self, holder: Mapping[str, Any], key: str) -> str:
        return f"{self.place}:{self.line(holder, key)}: {key}"

    def _built[T](self, line: int, build: Callable[[], T]) -> T:
        """What `build` makes; a failure that does not say its line gets this one."""
        try:
            return build()
        except BadInput as error:
            said = str(error)
            raise (error if said.startswith(f"{self.place}:") else self.refused(line, said)) from error


def _seed(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _SEED_DIGITS):
        raise BadInput(f"{place}: {quoted(text)} found, a whole number, 0 or more, wanted")
    return int(text)


_SCALARS: Final[tuple[tuple[str, str, Callable[[str, str], Any]], ...]] = (
    ("seed", "seed", _seed),
    ("slice", "slice_", parse_window),
    ("speed", "speed", parse_factor),
    ("thin", "thin", parse_share),
    ("amplify", "amplify", parse_factor),
    ("unsample", "unsample", YES_OR_NO.parse),
    ("method", "method", one_of(METHODS).parse),
    ("jitter", "jitter_ns", parse_duration_ns),
)


def recipe_text(plan: Plan) -> str:
    """The recipe, as YAML, that `read_recipe` makes the same plan of; what is as by default is left out."""
    return yaml_text(dict(_document(plan)))


def _document(plan: Plan) -> Iterator[tuple[str, Any]]:
    if plan.about:
        yield "about", plan.about
    yield "seed", plan.seed
    if plan.slice_ is not None:
        yield "slice", "..".join(map(show_moment, plan.slice_))
    for name, usual in (("speed", 1), ("thin", 1), ("amplify", 1), ("unsample", False)):
        if getattr(plan, name) != usual:
            yield name, getattr(plan, name)
    if plan.method != Plan().method:
        yield "method", plan.method
    if plan.jitter_ns != Plan().jitter_ns:
        yield "jitter", show_moment(plan.jitter_ns)
    if plan.mix:
        yield "mix", [_plain(shown(mix)) for mix in plan.mix]
    if plan.shapes:
        yield "shapes", [{shape.word: _plain(shown(shape))} for shape in plan.shapes]
    if plan.limits:
        yield "limits", [_plain(shown(limit)) for limit in plan.limits]
    if plan.phases:
        yield "phases", [_plain(shown(phase)) for phase in plan.phases]
    if plan.content != DEFAULT_CONTENT:
        yield "content", dict(_content(plan.content))


def _content(rules: ContentRules) -> Iterator[tuple[str, Any]]:
    yield "prompts", {"prefix_hits": f"{rules.hits * 100:.12g}%"} if rules.prompts == HITS else rules.prompts
    for name in ("prompt_length", "answer_length"):
        if getattr(rules, name) != 1:
            yield name, getattr(rules, name)
    for name in ("models", "endpoints"):
        if getattr(rules, name):
            yield name, dict(getattr(rules, name))


def _plain(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings with numbers as numbers, so that YAML shows them without quotes."""
    return {key: _number(text) for key, text in settings.items()}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        if str(found) == text:
            return found
    return text
