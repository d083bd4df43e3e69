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


def test_of_an_error_its_kind_and_place_are_shown_and_nothing_it_quotes() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.addFilter(AlikeFilter())
    logger = logging.Logger("stranger")
    logger.addHandler(handler)
    try:
        int("sk-secret")
    except ValueError:
        logger.exception("mitmproxy has crashed!")
    assert said.getvalue().startswith("mitmproxy has crashed! (ValueError in test_log_limits.py:")
    assert "sk-secret" not in said.getvalue()
