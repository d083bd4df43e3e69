"""JSON read piece by piece: the same values as read at once, whatever the size of a piece."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.importers import json_stream
from capture.importers.json_stream import JsonText, NotJson

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
INDENTS = st.sampled_from([None, 1])


@pytest.fixture(autouse=True)
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 3)


@given(values=st.lists(JSON, max_size=5), indent=INDENTS)
def test_values_one_after_another(values: list[Any], indent: int | None) -> None:
    text = "\n".join(json.dumps(value, indent=indent) for value in values)
    assert [value for _, value in JsonText(io.StringIO(text)).values()] == values


@given(items=st.lists(JSON, max_size=4), before=JSON, after=JSON, indent=INDENTS)
def test_items_deep_in_a_document(items: list[Any], before: Any, after: Any, indent: int | None) -> None:
    document = {"version": before, "log": {"pages": before, "entries": items, "comment": after}, "x": after}
    text = json.dumps(document, indent=indent)
    found = list(JsonText(io.StringIO(text)).items("log", "entries"))
    assert [item for _, item in found] == items
    if indent:
        lines = text.split("\n")
        assert all(lines[line - 1].strip() for line, _ in found)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{"log": {"entries": [1,\n2', 2, "it ends too early"),
        ('{"log": {"entries": [1]}}\n}', 2, "more behind its end"),
        ('{"log": {"entries": [1 2]}}', 1, "'2' in place of ','"),
        ('{"log":\n[]}', 2, "no object log"),
        ('{"log": {"entries": 5}}', 1, "no list entries"),
        ("[1]", 1, "'[' in place of '{'"),
        ("", 1, "it ends too early"),
        ('{"a": \n tru}', 2, "Expecting value"),
    ],
)
def test_where_a_text_is_broken(text: str, line: int, reason: str) -> None:
    with pytest.raises(NotJson) as caught:
        list(JsonText(io.StringIO(text)).items("log", "entries"))
    assert (caught.value.line, str(caught.value)) == (line, reason)


def test_a_document_without_the_list_has_no_items() -> None:
    assert list(JsonText(io.StringIO('{"log": {}, "a": [1]}')).items("log", "entries")) == []


@given(text=st.text(max_size=40))
def test_any_text_gives_values_or_says_where_it_is_broken(text: str) -> None:
    try:
        list(JsonText(io.StringIO(text)).values())
    except NotJson as trouble:
        assert trouble.line >= 1  # noqa: PT017 - both ends are fine
