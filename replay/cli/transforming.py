"""The verb `transform`, and what its flags (in `transform_flags`) come to, for `replay` too."""

from __future__ import annotations

import dataclasses
import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replay.cli.key_option import Key, key_files_of, keys_of, tell_in_the_clear
from replay.cli.option_groups import grouped
from replay.cli.transform_flags import Transformation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capture.trace_reader import Trace
    from replay.transform.content_rules import ContentRules
    from replay.transform.making import Making
    from replay.transform.plan import Plan
    from replay.transform.schedule_facts import Gathering, ScheduleFacts
    from replay.transform.schedule_format import Lineage, Schedule
    from replay.transform.shapes import Shape


def plan_of(asked: Transformation) -> Plan:
    """The recipe, if any, with the flags laid over it: values replace its own, steps come after its own.

    Raises `BadInput` naming the flag, or the recipe's file and line.
    """
    from capture.quantities import parse_duration_ns, parse_share
    from replay.transform.mixing import Mix, TenantLimit
    from replay.transform.plan import Plan
    from replay.transform.recipe_file import read_recipe
    from replay.transform.settings import read_flag
    from replay.transform.shapes import Ramp, Spike
    from replay.transform.wall_clock import parse_window

    plan = Plan() if asked.recipe is None else read_recipe(asked.recipe)
    given = {name: getattr(asked, name) for name in ("speed", "amplify", "method", "seed")}
    given["unsample"] = asked.unsample or None
    given["thin"] = None if asked.thin is None else parse_share(asked.thin, "--thin")
    given["slice_"] = None if asked.slice_ is None else parse_window(asked.slice_, "--slice")
    given["jitter_ns"] = None if asked.jitter is None else parse_duration_ns(asked.jitter, "--jitter")
    laid = (
        *(read_flag(Ramp, text, "--ramp") for text in asked.ramps or ()),
        *(read_flag(Spike, text, "--spike") for text in asked.spikes or ()),
        *map(_shape, asked.shapes or ()),
    )
    return dataclasses.replace(
        plan,
        **{name: value for name, value in given.items() if value is not None},
        shapes=(*plan.shapes, *laid),
        mix=(*plan.mix, *(read_flag(Mix, text, "--mix") for text in asked.mix or ())),
        limits=(*plan.limits, *(read_flag(TenantLimit, text, "--limit") for text in asked.limits or ())),
        content=_content(plan.content, asked),
    )


def _shape(text: str) -> Shape:
    from capture.failures import BadInput
    from replay.transform.settings import read_flag
    from replay.transform.shapes import KINDS

    word, _, settings = text.strip().partition(" ")
    if word not in KINDS:
        raise BadInput(
            f"--shape: {word!r} found, one of {', '.join(KINDS)} wanted, a space, and its settings, "
            "such as 'stairs from=1,to=4,steps=6'"
        )
    return read_flag(KINDS[word], settings, f"--shape {word}")


def _content(rules: ContentRules, asked: Transformation) -> ContentRules:
    from capture.failures import BadInput
    from capture.quantities import check_factor, parse_share
    from replay.transform.content_rules import HITS, KEEP, UNIQUE

    prompts = {
        "--unique-prompts": asked.unique_prompts,
        "--keep-prompts": asked.keep_prompts,
        "--prefix-hits": asked.prefix_hits is not None,
    }
    found = [flag for flag, given in prompts.items() if given]
    if len(found) > 1:
        raise BadInput(f"{' and '.join(found)}: contradict each other; give one of them")
    given: dict[str, Any] = {}
    if asked.unique_prompts or asked.keep_prompts:
        given["prompts"] = UNIQUE if asked.unique_prompts else KEEP
    if asked.prefix_hits is not None:
        given |= {"prompts": HITS, "hits": parse_share(asked.prefix_hits, "--prefix-hits")}
    if asked.prompt_length is not None:
        given["prompt_length"] = check_factor(asked.prompt_length, "--prompt-length")
    models = (_renaming(text, "--map-model") for text in asked.map_model or ())
    endpoints = (_renaming(text, "--map-endpoint") for text in asked.map_endpoint or ())
    return dataclasses.replace(
        rules, **given, models=(*rules.models, *models), endpoints=(*rules.endpoints, *endpoints)
    )


def _renaming(text: str, flag: str) -> tuple[str, str]:
    from capture.failures import BadInput

    old, equals, new = (part.strip() for part in text.partition("="))
    if not equals or not old or not new:
        raise BadInput(f"{flag}: {text!r} found, OLD=NEW wanted")
    return old, new


def planned(trace: Trace, plan: Plan) -> tuple[Schedule, Lineage]:
    """The schedule that `plan` makes of `trace`, in memory, and its lineage."""
    from replay.transform.making import Making
    from replay.transform.schedule_format import Schedule

    making = Making(trace, plan, _surveyed(trace, plan))
    return Schedule.joined(list(making.pieces())), making.lineage()


def tell_sampling(trace: Trace, lineage: Lineage) -> None:
    """Say on stderr, in one line, that a sampled trace stands for more traffic than the schedule has."""
    from replay.transform.making import sampling_note

    if note := sampling_note(trace.metadata.samples, lineage):
        typer.echo(f"{trace.name}: {note}", err=True)


def _surveyed(trace: Trace, plan: Plan) -> tuple[str, ...]:
    """What is to be said of requests whose prompts can't change; raises `BadInput` when all are such."""
    from capture.failures import BadInput
    from replay.engine.survey import without_text
    from replay.transform.making import unsampled

    if not unsampled(plan, trace).rules.needs_texts:
        return ()
    lacking, looked_at = without_text(trace)
    if lacking == looked_at:
        raise BadInput(
            f"{trace.name}: none of its first {looked_at} requests holds the text of a prompt, so prompts "
            "can't be made unique, alike or longer; leave that out"
        )
    if not lacking:
        return ()
    return (f"of the first {looked_at} requests {lacking} hold no prompt's text: they stay as they are",)


@grouped
def transform(
    trace: Annotated[str, typer.Argument(help="A trace: a file, a folder of segments, or a quoted glob.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The schedule to write.")],
    asked: Transformation,
    print_recipe: Annotated[
        bool, typer.Option("--print-recipe", help="Print the whole as a recipe on stdout, and nothing else.")
    ] = False,
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Make a schedule from a trace: faster, larger, with spikes and ramps laid over the real arrivals.

    The schedule refers to the trace's rows and copies no body; it is not encrypted. Order: slice, speed,
    thin, amplify, mix, ramps, spikes, shapes, limits; times are those of the replay, shares of it (25%), or
    times of day (10:00): when what came then is due.

    \b
    Examples:
      peaktape transform prod.parquet -o peak.schedule.parquet --speed 5
      peaktape transform prod.parquet -o peak.schedule.parquet --speed 5 --amplify 3 --seed 1
      peaktape transform prod.parquet -o ten.schedule.parquet --slice 2026-11-27T09:55..10:20 --speed 5
      peaktape transform prod.parquet -o peak.schedule.parquet --amplify 4 --method tied
      peaktape transform sampled.parquet -o all.schedule.parquet --unsample
      peaktape transform prod.parquet -o spike.schedule.parquet --spike at=60s,for=30s,x=4
      peaktape transform prod.parquet -o crowd.schedule.parquet \\
        --spike at=50%,for=10%,x=8,form=decay,model=chat-large,name=crowd
      peaktape transform 'segments/*.parquet' -o ramp.schedule.parquet --ramp at=0s,for=2m,from=0.5,to=3
      peaktape transform prod.parquet -o stairs.schedule.parquet --shape 'stairs from=1,to=4,steps=6'
      peaktape transform prod.parquet -o launch.schedule.parquet --recipe samples/recipes/product-launch.yml
    """
    from capture.trace_reader import open_trace
    from capture.trace_writer import refuse_existing, refuse_input
    from replay.transform.recipe_file import recipe_text

    plan = plan_of(asked)
    keys = keys_of(key)
    refuse_input(output, [trace, asked.recipe, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    opened = open_trace(trace, keys)
    facts, lineage = _made(opened, plan, output, overwrite=overwrite, shown=not print_recipe)
    tell_sampling(opened, lineage)
    holds = "instants, session numbers, this command's steps and the trace's place; no content"
    tell_in_the_clear((segment.path for segment in opened.segments), [output], holds, keys)
    if print_recipe:
        typer.echo(recipe_text(plan), nl=False)
    else:
        _show(output, facts, lineage)


def _made(
    opened: Trace, plan: Plan, output: Path, *, overwrite: bool, shown: bool
) -> tuple[ScheduleFacts, Lineage]:
    from rich.console import Console

    from replay.cli.progress_bar import progress_bar
    from replay.transform.making import Making
    from replay.transform.schedule_facts import Gathering
    from replay.transform.schedule_format import write_pieces

    with progress_bar(Console(stderr=True, highlight=False)) as progress:
        making = Making(opened, plan, _surveyed(opened, plan))
        gathering = Gathering()
        bars = _Shown(progress, making, output.name, gathering)
        pieces = gathering.passing(making.pieces(bars.on_rows))
        if shown:
            pieces = _before_the_last_are_written(pieces)
        write_pieces(output, pieces, making.lineage, overwrite=overwrite)
    return gathering.facts(), making.lineage()


def _before_the_last_are_written(pieces: Iterator[Schedule]) -> Iterator[Schedule]:
    """The pieces themselves; while the last of them are written, what shows them is imported."""
    yield from pieces
    threading.Thread(target=_import_for_showing).start()


def _import_for_showing() -> None:
    for name in ("plotext", "ruamel.yaml", "replay.report.rate_plot", "replay.report.trace_text"):
        importlib.import_module(name)


class _Shown:
    """Shows how far a making is: each reading of the trace that comes first, the fit, then the schedule.

    Each has a line and a time left of its own: a row costs many times as much in the last as in the first.
    """

    def __init__(self, progress: Any, making: Making, name: str, gathering: Gathering) -> None:
        before = sum(making.readings.values())
        self._progress = progress
        self._gathering = gathering
        self._lines = [*making.readings.items(), (f"writing {name}", making.rows_to_read - before)]
        self._task: Any = None
        self._left = 0
        self._begin()

    def on_rows(self, rows: int) -> None:
        """So many rows more were read."""
        if not self._left and self._lines:
            self._progress.remove_task(self._task)  # what was fitted is fitted
            self._begin()
        taken = min(rows, self._left) if self._lines else rows
        self._left -= taken
        told = "" if self._lines else f"· {self._gathering.rows:,} rows"
        self._progress.update(self._task, advance=taken, rows=told)
        if not self._left and self._lines:
            self._end()
        if rows > taken:
            self.on_rows(rows - taken)

    def _begin(self) -> None:
        """Show the next line."""
        self._what, self._left = self._lines.pop(0)
        self._task = self._progress.add_task(self._what, total=self._left, rows="")

    def _end(self) -> None:
        """What comes after a reading: the fit, of which nobody knows how long it takes, or the next one."""
        from replay.transform.making import MEASURING

        if self._what == MEASURING:
            self._task = self._progress.add_task("fitting shifts of clones", total=None, rows="")
        else:
            self._begin()


def _show(output: Path, facts: ScheduleFacts, lineage: Lineage) -> None:
    from rich.console import Console

    from replay.report.rate_plot import rate_plot
    from replay.report.trace_text import schedule_lines

    out = Console(highlight=False, soft_wrap=True)
    for line in schedule_lines(str(output), facts, lineage):
        out.print(line, markup=False)
    plot = rate_plot(
        facts.rate.start_s.tolist(),
        facts.rate.per_s.tolist(),
        width=min(100, out.width),
        height=10,
        title="requests/s over the replay",
        colour=out.color_system is not None,
    )
    out.file.write(plot + "\n")
