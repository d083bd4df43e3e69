"""A request line and header fields as a proxy has them, bytes, and as rows have them, text.

Who takes rows turns one into the other. Decoding is left to the recorder's process, since the
proxy's has clients waiting. Pure functions of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

type TextFields = Sequence[tuple[str, str]]
type RawFields = Sequence[tuple[bytes, bytes]]
type Fields = TextFields | RawFields
"""Header fields in their order, (name, value) each; as bytes they are ISO 8859-1."""

_TEXTS: Final = ("method", "scheme", "path", "http_version")
_COLUMNS: Final = ("request_headers", "response_headers", "request_trailers", "response_trailers")


def pairs_of(fields: RawFields) -> list[tuple[str, str]]:
    """Header fields as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def with_text(columns: dict[str, Any]) -> dict[str, Any]:
    """A row's columns, in place: those of the request line and of header fields hold text from now on."""
    if isinstance(columns.get("method"), bytes):
        for column in _TEXTS:
            columns[column] = columns[column].decode("latin-1")
    for column in _COLUMNS:
        fields = columns.get(column)
        if fields and isinstance(fields[0][0], bytes):
            columns[column] = pairs_of(fields)
        elif fields is not None and not fields:
            columns[column] = []
    return columns
