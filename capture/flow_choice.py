"""Which of the requests that pass are recorded, said as early as it can be: by a filter, by a sample.

What a filter says is decided in `filter_stages`, which only captures with one load.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from mitmproxy.http import HTTPFlow

from capture.body_condition import Condition
from capture.choice import BY_FILTER, BY_SAMPLE, UNDECIDED, Choice, Stage
from capture.raw_headers import pairs_of
from capture.session_sample import SessionSample
from capture.sessions import session_in_headers

__all__ = ["UNDECIDED", "FlowChoice"]


class FlowChoice:
    """What one capture's choice says of flows: "" for yes, `UNDECIDED`, or why not.

    The sample is decided here where a header names the session, which costs a look at the headers and spares
    everything else; without one the session is in the body, which is the recorder's to read.
    """

    def __init__(self, choice: Choice) -> None:
        self._decide: Callable[[HTTPFlow, Stage], Condition] | None = None
        if choice.filter:
            from capture.filter_stages import decide, parse_filter

            self._decide = functools.partial(decide, parse_filter(choice.filter))
        self._sample = SessionSample(choice.sample, choice.sample_seed) if choice.sample < 1 else None

    @property
    def takes_all(self) -> bool:
        """Whether there is nothing to choose."""
        return self._decide is None and self._sample is None

    def asked(self, flow: HTTPFlow) -> str:
        """What can be said at the request's head."""
        if self._sample is not None:
            session = session_in_headers(pairs_of(flow.request.headers.fields))
            if session is not None and not self._sample.takes(session):
                return BY_SAMPLE
        return self._at(flow, Stage.ASKED)

    def answered(self, flow: HTTPFlow) -> str:
        """What can be said at the response's head, of a flow that was undecided."""
        return self._at(flow, Stage.ANSWERED)

    def over(self, flow: HTTPFlow) -> Condition:
        """What is said at the end, of a flow that was undecided: yes, no, or a condition on its bodies."""
        return True if self._decide is None else self._decide(flow, Stage.OVER)

    def _at(self, flow: HTTPFlow, stage: Stage) -> str:
        if self._decide is None:
            return ""
        decided = self._decide(flow, stage)
        if isinstance(decided, bool):
            return "" if decided else BY_FILTER
        return UNDECIDED
