"""The knobs of the demo server: what makes one build of it differ from another.

Values and their checks only, light to import; what the knobs do is in `queueing`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final, Literal

from capture.failures import BadInput

StationName = Literal["chat", "embed", "predict"]
STATIONS: Final[tuple[StationName, ...]] = ("chat", "embed", "predict")

CAPACITY: Final = "Capacity"
TIMES: Final = "Service times"
TROUBLE: Final = "Chance and trouble"


def _knob(default: Any, about: str, help_text: str, least: int = 0) -> Any:
    return dataclasses.field(default=default, metadata={"about": about, "help": help_text, "least": least})


@dataclasses.dataclass(frozen=True)
class Build:
    """One build of the demo server; raises `BadInput` for values that make no sense.

    Each field's metadata holds its group (`about`), its `help` and its `least` value.
    """

    chat_slots: int = _knob(48, CAPACITY, "Chats that are served at the same time (the batch).", 1)
    embed_slots: int = _knob(8, CAPACITY, "Embedding requests that are served at the same time.", 1)
    predict_slots: int = _knob(6, CAPACITY, "Predict requests that are served at the same time.", 1)
    queue_limit: int = _knob(-1, CAPACITY, "Requests that may wait per station before 503; -1: any.", -1)
    context_tokens: int = _knob(8192, CAPACITY, "Prompt and output tokens of a chat together.", 1)
    prefill_ms: float = _knob(45.0, TIMES, "Prefill of a chat, whatever its length.")
    prefill_token_ms: float = _knob(0.15, TIMES, "Prefill per prompt token.")
    decode_ms: float = _knob(16.0, TIMES, "Time between two output tokens.")
    occupancy_growth: float = _knob(
        0.0, TIMES, "Steps last 1 + this x (share of busy slots at admission) as long."
    )
    embed_ms: float = _knob(14.0, TIMES, "Embedding, whatever its length.")
    embed_token_ms: float = _knob(0.05, TIMES, "Embedding per input token.")
    predict_ms: float = _knob(10.0, TIMES, "Prediction, whatever its size.")
    predict_row_ms: float = _knob(0.5, TIMES, "Prediction per row.")
    prefill_factor: float = _knob(1.0, TIMES, "Multiplies all prefill times.")
    decode_factor: float = _knob(1.0, TIMES, "Multiplies all decode steps.")
    embed_factor: float = _knob(1.0, TIMES, "Multiplies all embedding times.")
    predict_factor: float = _knob(1.0, TIMES, "Multiplies all prediction times.")
    jitter_sigma: float = _knob(
        0.08, TROUBLE, "Sigma of the lognormal jitter (mean 1) of each prefill and step."
    )
    tail_every: int = _knob(0, TROUBLE, "Slow one request in this many, at random; 0: none.")
    tail_factor: float = _knob(5.0, TROUBLE, "How many times as long such a request takes.")
    stall_at_s: float = _knob(0.0, TROUBLE, "When, after the start, the whole server stalls once.")
    stall_for_s: float = _knob(0.0, TROUBLE, "How long it stalls; 0: never.")
    fault_rate: float = _knob(0.0, TROUBLE, "Share of requests that get a 500, chosen by content, not seed.")
    seed: int = _knob(0, TROUBLE, "Seed of the jitter and of the tail.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), field.metadata["least"]
            if not math.isfinite(value) or value < least:
                raise BadInput(
                    f"demo server, {option_name(field.name)}: {value} found, {least} or more wanted"
                )
        if self.fault_rate > 1:
            raise BadInput(f"demo server, --fault-rate: {self.fault_rate} found, 0 to 1 wanted")

    def slots(self, station: StationName) -> int:
        """Slots of a station."""
        return {"chat": self.chat_slots, "embed": self.embed_slots, "predict": self.predict_slots}[station]


def option_name(knob: str) -> str:
    """The command line option that sets a knob."""
    return f"--{knob.replace('_', '-')}"
