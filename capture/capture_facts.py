"""What is settled when a capture begins, and that its processes and a later recovery all have to know.

Values that go through JSON and back; the files they lie in are the callers'.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capture.__about__ import VERSION
from capture.choice import Choice
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.redaction import RedactionPolicy
from capture.retention import Retention, notes_of
from capture.trace_format import TraceMetadata

LEFT_FORMAT: Final = 1
"""Of spools and journals, as facts tell it (none: 1). One that is higher is a later version's to recover."""


class LeftByLater(BadInput):
    """What a later version left: that one can recover it, and nothing of it may be touched before."""


@dataclasses.dataclass(frozen=True)
class RecorderOptions:
    """How much is held, when a segment is closed, what is recorded at all, and what of it is kept.

    `spool_bytes` may wait in memory for the recorder, `journal_bytes` on disk for the compactor; what comes
    beyond is dropped and counted. With `keys` nothing that is on a disk can be read without them.
    `retention` bounds the segments in the folder. With `outbox_bytes` the folder lies in an outbox, in which
    so many bytes of segments may wait for their store.
    """

    segment_bytes: int = 64 << 20
    segment_s: float = 10.0
    spool_bytes: int = 256 << 20
    journal_bytes: int = 4 << 30
    response_bodies: bool = True
    redaction: RedactionPolicy = dataclasses.field(default_factory=RedactionPolicy)
    choice: Choice = dataclasses.field(default_factory=Choice)
    keys: Keys | None = None
    retention: Retention = dataclasses.field(default_factory=Retention)
    outbox_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class CaptureFacts:
    """One capture: its name, where its segments and its spool lie, its zero on both clocks, its options."""

    capture_id: str
    folder: Path
    spool: Path
    zero_ns: int
    wall_zero_ns: int
    source: str
    upstreams: tuple[str, ...] = ()
    options: RecorderOptions = dataclasses.field(default_factory=RecorderOptions)

    def metadata(
        self,
        counts: Mapping[str, Any],
        upstreams: Iterable[str] = (),
        left_out: Mapping[str, int] | None = None,
        recorded_ns: Iterable[Sequence[int | None]] = (),
        expired: Mapping[str, int] | None = None,
    ) -> TraceMetadata:
        """The metadata of a trace of this capture.

        `upstreams` are the hosts that were seen besides, `left_out` counts what redaction took out, by kind,
        `recorded_ns` are the spans in which recording was on, `expired` counts segments that were deleted.
        """
        return TraceMetadata(
            wall_zero_ns=self.wall_zero_ns,
            source=self.source,
            upstreams=tuple(sorted({*self.upstreams, *upstreams})),
            redaction={**self.options.redaction.describe(), "left_out": dict(left_out or {})},
            counts=counts,
            sampling=self.options.choice.sampling,
            choice=self.options.choice.described(),
            recorded_ns=tuple((int(start or 0), end) for start, end in recorded_ns),
            tool_version=VERSION,
            notes=notes_of(expired or {}),
        )

    def to_json(self) -> str:
        """All of it but the policy's key and those of encryption, for `from_json`."""
        options = {f.name: getattr(self.options, f.name) for f in dataclasses.fields(self.options)}
        options["redaction"] = self.options.redaction.to_values()
        del options["keys"]
        options["choice"] = dataclasses.asdict(self.options.choice)
        options["retention"] = dataclasses.asdict(self.options.retention)
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        told = {"left_format": LEFT_FORMAT, "tool_version": VERSION}
        return json.dumps({**told, **own, "options": options}, default=str)

    @classmethod
    def from_json(
        cls, raw: str | bytes, place: str, key: bytes | None = None, keys: Keys | None = None
    ) -> CaptureFacts:
        """What `to_json` wrote, with the policy's `key` or a new one, and the `keys` of encryption.

        Raises `BadInput` naming `place` when it is not that, `LeftByLater` when a later version wrote it.
        """
        try:
            found = json.loads(raw)
            left_format, version = found.pop("left_format", 1), found.pop("tool_version", "")
            if left_format > LEFT_FORMAT:
                raise LeftByLater(
                    f"{place}: left by peaktape {version}, which this one ({VERSION}) can't recover; "
                    f"run `peaktape recover` of {version} or later"
                )
            options = found["options"]
            redaction = RedactionPolicy.from_values(options["redaction"], key)
            parts = {
                "redaction": redaction,
                "choice": Choice(**options.get("choice", {})),
                "retention": Retention(**options.get("retention", {})),
                "keys": keys,
            }
            return cls(
                **{
                    **found,
                    "folder": Path(found["folder"]),
                    "spool": Path(found["spool"]),
                    "upstreams": tuple(found["upstreams"]),
                    "options": RecorderOptions(**{**options, **parts}),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{place}: does not tell of a capture ({error}); remove it to go on without what it was for"
            ) from error
