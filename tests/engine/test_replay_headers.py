"""Headers that a user sets on every request: what is one, and what would be two."""

from __future__ import annotations

import pytest

from capture.failures import BadInput
from replay.cli.ordering import headers_of
from replay.cli.replay_flags import Target


def test_a_secret_out_of_a_file_loses_its_lines_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", " abc\n")
    assert headers_of(Target(header=["x-a: b: c"], auth_env="KEY")) == (
        ("x-a", "b: c"),
        ("authorization", "Bearer abc"),
    )
    assert headers_of(Target(auth_env="KEY", auth_header="x-api-key")) == (("x-api-key", "abc"),)


@pytest.mark.parametrize("text", ["nothing", ": b", "a b: c", "a: b\r\nx: y", "a: b\0"])
def test_what_is_no_header_or_would_be_two(text: str) -> None:
    with pytest.raises(BadInput, match=r"--header: .* found, 'name: value' on one line wanted"):
        headers_of(Target(header=[text]))


@pytest.mark.parametrize(
    ("secret", "name"), [("a\nb", "authorization"), ("a", "a:"), (" \n", "authorization")]
)
def test_a_credential_that_is_none(secret: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", secret)
    with pytest.raises(BadInput, match=r"--auth-(env KEY|header): .* (wanted|first)$"):
        headers_of(Target(auth_env="KEY", auth_header=name))
