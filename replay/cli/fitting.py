"""The verbs `fit` and `generate`: a trace to a profile that can be shared, and a profile to a trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.import_run import Files, IgnoreEos, RecordedModel, Seed, Writing, run_import
from replay.cli.key_option import Key, key_files_of, keys_of
from replay.cli.option_groups import grouped
from replay.cli.printing import tell

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.importers.pending_trace import PendingTrace
    from replay.transform.profile import Profile


def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="A trace, or a folder of ServeGen's client tables (*-trace.csv)."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="The profile to write.")],
    at_least: Annotated[
        int,
        typer.Option(
            "--at-least", min=2, max=10_000, help="No figure stands for fewer requests or sessions than this."
        ),
    ] = 10,
    names: Annotated[
        bool, typer.Option("--names/--no-names", help="Keep the names of models, or say model-1, model-2 …")
    ] = True,
    like: Annotated[
        Path | None,
        typer.Option(help="A profile whose lengths and sessions the client tables' requests get."),
    ] = None,
    seed: Seed = 0,
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the profile if it exists.")] = False,
) -> None:
    """Describe a trace's traffic in a profile (YAML) that can be shared: no word, id, host or header in it.

    Rate over time, burstiness, turns and think times, lengths of prompts and answers, models, streaming, and
    which share of prompts begins alike. `generate` makes traffic of it. Small counts are put together:
    a quantile is the mean of --at-least values, a class of requests has three times as many sessions.

    \b
    Examples:
      peaktape fit prod.parquet -o profile.yaml
      peaktape fit prod.parquet -o shared.yaml --no-names --at-least 50
      peaktape fit servegen/data/reason/deepseek-r1 -o reasoning.yaml --like profile.yaml
    """
    from rich.console import Console

    from capture.trace_writer import refuse_existing, refuse_input
    from replay.transform.profile_file import write_profile

    keys = keys_of(key)
    refuse_input(output, [source, like, *key_files_of(keys)])
    refuse_existing(output, overwrite=overwrite)
    profile = _fitted(source, at_least, names, like, seed, keys)
    write_profile(output, profile, overwrite=overwrite)
    tell(Console(stderr=True), "note", profile.notes)
    rate = profile.sessions / profile.span_s
    typer.echo(
        f"{output}: {len(profile.classes)} class{'es' if len(profile.classes) > 1 else ''}, "
        f"{profile.sessions:,.0f} sessions over {profile.span_s:,.6g} s, {rate:,.3g}/s"
    )


def _fitted(
    source: Path, at_least: int, names: bool, like: Path | None, seed: int, keys: Keys | None
) -> Profile:
    import numpy as np

    from capture.failures import BadInput
    from capture.trace_reader import open_trace
    from replay.cli.progress_bar import rows_done
    from replay.transform.client_table import is_client_table, read_client_tables
    from replay.transform.fitting import fit as fitted
    from replay.transform.profile_file import read_profile

    if is_client_table(source):
        return read_client_tables(source, None if like is None else read_profile(like))
    if like is not None:
        raise BadInput("--like: goes with client tables; a trace has lengths of its own")
    trace = open_trace(source, keys)
    with rows_done(f"reading {source.name}", trace.rows) as on_rows:
        return fitted(trace, at_least, np.random.default_rng(seed), names=names, on_rows=on_rows)


@grouped
def generate(
    profile: Annotated[
        Path,
        typer.Argument(metavar="PROFILE", help="A profile (YAML), or a folder of ServeGen's client tables."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="TRACE", help="The trace to write.")],
    amplify: Annotated[float, typer.Option(help="That many times the users, on the same rate curve.")] = 1.0,
    slice_: Annotated[
        str | None, typer.Option("--slice", help="Only sessions that begin in this part, e.g. 10m..15m.")
    ] = None,
    model: RecordedModel = None,
    ignore_eos: IgnoreEos = False,
    seed: Seed = 0,
    *,
    writing: Writing,
) -> None:
    """Make a trace from a profile: the same kind of traffic, and no request of anybody's.

    Prompts are synthetic, of exactly as many words as tokens are wanted; the same seed makes the same trace.
    The trace is like any other: inspect, transform and replay it.

    \b
    Examples:
      peaktape generate profile.yaml -o trace.parquet
      peaktape generate profile.yaml -o tenfold.parquet --amplify 10 --seed 1
      peaktape generate servegen/data/reason/deepseek-r1 -o hour.parquet --slice 9h..10h --limit 20000
    """
    import numpy as np

    from capture.failures import BadInput
    from capture.quantities import check_factor, parse_window_ns
    from replay.transform.client_table import is_client_table, read_client_tables
    from replay.transform.generated import generate as generated
    from replay.transform.generated import pending_trace
    from replay.transform.profile_file import read_profile

    factor = check_factor(amplify, "--amplify")
    window = None if slice_ is None else parse_window_ns(slice_, "--slice")

    def begin(_: object) -> PendingTrace:
        found = read_client_tables(profile) if is_client_table(profile) else read_profile(profile)
        if window is not None and window[0] >= found.span_s * 1e9:
            raise BadInput(f"--slice: {slice_} found, a part of 0s..{found.span_s:g}s wanted")
        requests = generated(found, np.random.default_rng(seed), factor=factor, slice_ns=window)
        return pending_trace(profile, found, requests, seed, model=model, ignore_eos=ignore_eos)

    run_import(begin, Files(profile, output), writing)
