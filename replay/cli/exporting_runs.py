"""`peaktape export` of runs: HdrHistogram's files, OpenTelemetry metrics, CSV."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replay.cli.key_option import Key, key_files_of, keys_of, tell_in_the_clear

if TYPE_CHECKING:
    import pyarrow as pa

    from capture.encryption_keys import Keys
    from replay.analysis.metrics import Latencies
    from replay.analysis.values import Validity
    from replay.report.hdr_files import LoggedInterval


class Metric(StrEnum):
    """The latencies of `analysis.values.METRICS`, as option values."""

    E2E = "e2e"
    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"


class Clock(StrEnum):
    """`analysis.values.CLOCKS`, as option values."""

    DUE = "due"
    SENT = "sent"


RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run that `peaktape replay` wrote.", show_default=False)
]
Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The file to write; gzipped as .gz.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Start = Annotated[
    Clock,
    typer.Option(
        "--clock",
        help="Where E2E and TTFT start: due is what a user waited, free of coordinated omission; sent is "
        "service time.",
    ),
]


def hgrm(
    run: RunArgument,
    output: Output,
    metric: Annotated[Metric, typer.Option("--metric", help="Which latency.")] = Metric.E2E,
    clock: Start = Clock.DUE,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="TEXT", help="Only this one, e.g. 'POST /v1/embeddings'."),
    ] = None,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a run's latencies as an HdrHistogram percentile table, in ms, for its plotter.

    Requests without a good answer have no latency; they are left out and counted.

    \b
    Examples:
      peaktape export hgrm runs/a.parquet -o a.hgrm
      peaktape export hgrm runs/a.parquet -o a-ttft.hgrm --metric ttft
      peaktape export hgrm runs/a.parquet -o chat.hgrm --endpoint 'POST /v1/chat/completions'
    """
    from replay.analysis.hdr_histogram import HdrHistogram
    from replay.report.hdr_files import percentile_table

    source = _Source.opened(run, output, key, overwrite)
    sample = source.latencies.sample(metric, clock)
    if endpoint is not None:
        sample = sample.kept(source.latencies.run.endpoint.mask(source.known_endpoint(endpoint)))
    source.refuse_none({metric.value: len(sample.row)})
    source.tell_left_out()
    source.write(percentile_table(HdrHistogram.of(sample.values_ns)), "HdrHistogram percentiles")
    _told(output, len(sample.row), f"{metric} latencies", "HdrHistogram percentiles")


def hdr_log(
    run: RunArgument,
    output: Output,
    metrics: Annotated[
        list[Metric] | None, typer.Option("--metric", help="Which latency; repeatable. [default: e2e, ttft]")
    ] = None,
    interval: Annotated[str, typer.Option("--interval", help="Length of an interval.")] = "1s",
    by_endpoint: Annotated[
        bool, typer.Option("--by-endpoint", help="A tag per metric and endpoint, not per metric.")
    ] = False,
    clock: Start = Clock.DUE,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a run's latencies as an HdrHistogram interval log (V2), for its log analyser and processor.

    Values are ns; every line has a tag (HistogramLogProcessor -tag e2e). A request belongs to the interval
    that it was due in; it has no latency without a good answer. Intervals without values are left out.

    \b
    Examples:
      peaktape export hdr-log runs/a.parquet -o a.hlog
      peaktape export hdr-log runs/a.parquet -o a.hlog --metric e2e --by-endpoint --interval 5s
    """
    from replay.report.hdr_files import interval_log

    wanted = [*dict.fromkeys(metrics or (Metric.E2E, Metric.TTFT))]
    width_ns = _width_ns(interval)
    source = _Source.opened(run, output, key, overwrite)
    counts = {metric.value: len(source.latencies.sample(metric, clock).row) for metric in wanted}
    source.refuse_none(counts)
    source.tell_left_out()
    for name in [name for name, count in counts.items() if not count]:
        _say(f"left out: {name}, which no request has")
    about = source.latencies.run.metadata
    comments = (
        f"peaktape run {' '.join(about.label.split())}: latencies in ns from {clock}",
        f"an interval holds requests that were due in it; valid: {str(source.validity.valid).lower()}",
    )
    intervals = _intervals(source.latencies, wanted, clock, width_ns, by_endpoint)
    with _watched(intervals, source) as watched:
        source.write(interval_log(watched, about.zero_wall_ns, comments), "an HdrHistogram log")
    _told(output, sum(counts.values()), "latencies", "an HdrHistogram log")


def otlp_metrics(
    run: RunArgument,
    output: Output,
    interval: Annotated[str, typer.Option("--interval", help="What one export covers.")] = "10s",
    clock: Start = Clock.DUE,
    key: Key = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a run as OpenTelemetry metrics: OTLP/JSON, one export per interval and line.

    Names and buckets are those of the GenAI and HTTP conventions, histograms are deltas. The Collector's
    otlpjsonfile receiver reads it. A request belongs to the interval that it was due in.

    \b
    Examples:
      peaktape export otlp-metrics runs/a.parquet -o a.otlp.jsonl
      peaktape export otlp-metrics runs/a.parquet -o a.otlp.jsonl.gz --interval 1m
    """
    import json

    from replay.report.otlp_metrics import metric_lines

    width_ns = _width_ns(interval)
    source = _Source.opened(run, output, key, overwrite)
    lines = metric_lines(source.latencies, source.validity, width_ns, clock)
    source.write(
        (json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines), "OTLP metrics"
    )
    _told(output, len(source.latencies.run), "requests", "OTLP metrics")


def run_csv(run: Path, output: Path, key: str | None, *, overwrite: bool) -> None:
    """Write a run as CSV: `report.run_csv` says which columns."""
    import pyarrow.csv

    from capture.exporters.export_file import packed_file
    from capture.trace_writer import replace_when_whole
    from replay.report.run_csv import csv_table

    source = _Source.opened(run, output, key, overwrite)
    with (
        replace_when_whole(output, overwrite=overwrite) as temporary,
        packed_file(temporary, gzipped=output.suffix == ".gz") as file,
    ):
        pyarrow.csv.write_csv(csv_table(source.table, source.latencies), file)
    _say("lost: CSV holds no chunks and no bodies")
    _told(output, len(source.latencies.run), "requests", "CSV")


@dataclasses.dataclass(frozen=True)
class _Source:
    """A run that was read to be exported, and where to."""

    path: Path
    output: Path
    overwrite: bool
    table: pa.Table
    latencies: Latencies
    validity: Validity

    @classmethod
    def opened(cls, run: Path, output: Path, key: str | None, overwrite: bool) -> _Source:
        """Read a run, and say on stderr what is doubtful; raises `BadInput` before anything is written."""
        from capture.trace_writer import refuse_existing, refuse_input
        from replay.analysis.metrics import Latencies
        from replay.analysis.run_table import RunTable
        from replay.analysis.validity import judge
        from replay.engine.run_format import read_run

        keys: Keys | None = keys_of(key)
        refuse_input(output, [run, *key_files_of(keys)])
        refuse_existing(output, overwrite=overwrite)
        table, about = read_run(run, keys, bodies=False)
        found = RunTable.of(table, about)
        validity = judge(found)
        if about.partial:
            _say(f"warning: {run}: stopped early; what was not sent by then is in it as not sent")
        if not validity.valid:
            failed = ", ".join(check.name for check in validity.checks if not check.passed)
            _say(f"warning: {run}: run INVALID ({failed}); its figures are no measurement of the target")
        holds = "figures, request ids, and names of endpoints and models; no bodies"
        tell_in_the_clear([run], [output], holds, keys)
        return cls(run, output, overwrite, table, Latencies(found), validity)

    def known_endpoint(self, name: str) -> str:
        """The name itself; raises `BadInput` where the run has no such endpoint."""
        from capture.failures import BadInput

        names = self.latencies.run.endpoint.names
        if name not in names:
            raise BadInput(f"--endpoint: {name!r} found, one of {', '.join(map(repr, names))} wanted")
        return name

    def refuse_none(self, counts: dict[str, int]) -> None:
        """Raise `BadInput` where there is nothing to export, and name what there is."""
        from capture.failures import BadInput
        from replay.analysis.values import METRICS

        if any(counts.values()):
            return
        others = {name: len(self.latencies.sample(name, "due").row) for name in METRICS if name not in counts}
        there = ", ".join(f"{name} ({count:,})" for name, count in others.items() if count)
        way_out = f"choose --metric {there}" if there else "no request was answered whole"
        raise BadInput(f"{self.path}: no {' or '.join(counts)} found to export; {way_out}")

    def tell_left_out(self) -> None:
        from capture.counts import counted

        without = len(self.latencies.run) - int(self.latencies.ok.sum())
        if without:
            _say(f"left out: {counted(without, 'request')} without a good answer, which have no latency")

    def write(self, lines: Iterable[str], what: str) -> None:
        """Write lines whole or not at all; raises `BadInput` where there is none."""
        from capture.exporters.export_file import text_file
        from capture.failures import BadInput
        from capture.trace_writer import replace_when_whole

        if not len(self.latencies.run):
            raise BadInput(f"{self.path}: an empty run has nothing for {what}")
        with (
            replace_when_whole(self.output, overwrite=self.overwrite) as temporary,
            text_file(temporary, gzipped=self.output.suffix == ".gz") as file,
        ):
            file.writelines(lines)


def _intervals(
    latencies: Latencies, metrics: Iterable[Metric], clock: Clock, width_ns: int, by_endpoint: bool
) -> Iterator[LoggedInterval]:
    """The log's lines in the order of time, as its readers want them."""
    import heapq

    from replay.analysis.hdr_histogram import HdrHistogram
    from replay.analysis.intervals import by_interval
    from replay.report.hdr_files import LoggedInterval, tag_of

    run = latencies.run

    def of_metric(metric: Metric) -> Iterator[LoggedInterval]:
        series = run.endpoint.codes if by_endpoint else None
        for at, code, values in by_interval(run, latencies.sample(metric, clock), width_ns, series):
            name = run.endpoint.names[code].split(" ", 1) if by_endpoint else ()
            start_s, length_s = at * width_ns / 1e9, width_ns / 1e9
            yield LoggedInterval(tag_of(metric, *name), start_s, length_s, HdrHistogram.of(values))

    return heapq.merge(*map(of_metric, metrics), key=lambda line: line.start_s)


@contextlib.contextmanager
def _watched(intervals: Iterator[LoggedInterval], source: _Source) -> Iterator[Iterator[LoggedInterval]]:
    """The intervals, with progress on stderr: how far into the run they have come."""
    from rich.console import Console

    from replay.cli.progress_bar import progress_bar

    last_s = float(source.latencies.run.due_ns.max()) / 1e9
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(f"writing {source.output.name}", total=last_s, rows="")

        def each() -> Iterator[LoggedInterval]:
            for one in intervals:
                progress.update(task, completed=one.start_s)
                yield one

        yield each()


def _width_ns(text: str) -> int:
    from capture.failures import BadInput
    from capture.quantities import parse_duration_ns

    width_ns = parse_duration_ns(text, "--interval")
    if width_ns < 1_000_000:
        raise BadInput(f"--interval: {text} found, 1ms or more wanted")
    return width_ns


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _told(output: Path, count: int, what: str, into: str) -> None:
    from capture.counts import readable_bytes

    typer.echo(f"{output}: {count:,} {what} as {into}, {readable_bytes(output.stat().st_size)}")
