"""What strangers can make the log say is bounded."""

from __future__ import annotations

import io
import logging

from capture.log_limits import AlikeFilter


def test_of_messages_alike_only_the_first_and_every_doubling_are_shown() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.addFilter(AlikeFilter(most=3))
    logger = logging.Logger("stranger")
    logger.addHandler(handler)
    for number in range(100):
        logger.warning("Client TLS handshake failed. %s", number)
    logger.warning("something else %s", "x" * 10_000)
    *alike, other = said.getvalue().splitlines()
    assert [line.split()[4] for line in alike] == ["0", "1", "2", "3", "7", "15", "31", "63"]
    assert alike[-1].endswith("(64 like it; most are not shown)")
    assert len(other) < 600
