"""One body under the rules: its coding taken off, its kind told, its edits made, and coded again.

A body in which nothing is to be left out stays byte for byte. Where something was, the number of reads stays
and each read keeps its share: `sizes` then add up to the stored body. A body that can't be looked into
(unknown coding, damaged, a bomb) is left out whole.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_plus

from capture.privacy.body_rules import BodyRules, Tally, count
from capture.privacy.codings import Undecodable, codings_of, decoded_pieces, encoded_pieces
from capture.privacy.contents import conforms, looks_like_identifier, payload_conforms
from capture.privacy.credential_names import name_is_credential
from capture.privacy.documents import Judge, Part
from capture.privacy.edits import Edit, moved, settled
from capture.privacy.quick_look import may_hold_secret, stream_may_hold_secret
from capture.privacy.secret_patterns import MARKS

_DATA_LINE: Final = re.compile(r"data:(?<![^\r\n\ufeff]data:)[ ]?([^\r\n]*)")
"""Lines end in LF, CRLF or CR, and a byte order mark may come first (WHATWG HTML, 9.2.5)."""
_OTHER_LINE: Final = re.compile(r"(?P<field>[^\r\n:]*)(?P<colon>:?)[ ]?(?P<value>[^\r\n]*)")
_STREAM_FIELDS: Final = frozenset({"data", "event", "id", "retry", "\ufeffdata"})
_LINE: Final = re.compile(r"[^\r\n]+")
_TWO_LINES: Final = re.compile(rb"\}\r?\n\{")
_SHORTEST_SECRET: Final = 24
_PAIR: Final = re.compile(r"(?<![^&])(?:([^&=]*)=)?([^&]*)")
"""A name and its value, or what stands there without a name. Tried only where one begins: else each sign of a
long text without either would be tried to the end."""
_STREAM, _LINES, _JSON, _FORM, _TEXT, _OPAQUE = "stream", "lines", "json", "form", "text", "opaque"

type Headers = Iterable[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class RedactedBody:
    """A body as it may be written (None: left out), the size of each read's share, and the chain's state
    after the prompt that it was."""

    body: bytes | None
    sizes: Sequence[int]
    after_prompt: bytes | None = None


def redacted_body(
    body: bytes | None,
    headers: Headers,
    rules: BodyRules,
    tally: Tally,
    *,
    sizes: Sequence[int] = (),
    start: bytes | None = None,
) -> RedactedBody:
    """`body` under `rules`; `tally` counts what was left out. `sizes` are the bytes of its reads, `start` the
    `after_prompt` of the request that it answers."""
    if not body:
        return RedactedBody(body, sizes)
    named = {name.lower(): value for name, value in headers}
    codings = codings_of(named.get("content-encoding"))
    try:
        pieces = decoded_pieces(_cut(body, sizes), codings)
    except Undecodable:
        count(tally, "body_not_decodable")
        return RedactedBody(None, sizes)
    raw = b"".join(pieces) if codings else body
    kind = kind_of(raw, named.get("content-type", ""))
    if rules.only_secrets and not _worth_a_look(raw, kind, rules):
        return RedactedBody(body, sizes)
    if kind == _OPAQUE or (kind in (_TEXT, _FORM) and rules.contents in ("drop", "hash")):
        changed = opaque(raw, rules, tally)
        if changed == raw:
            return RedactedBody(body, sizes)
        return _coded_again(changed, list(itertools.accumulate(map(len, pieces))), codings, sizes)
    text = raw.decode("utf-8", "surrogateescape")
    judge = Judge(rules, tally, start)
    edits = _edits(text, kind, judge, rules, tally)
    after_prompt = None if rules.contents != "pseudonymise" or rules.answers else judge.after_prompt
    if not edits:
        return RedactedBody(body, sizes, after_prompt)
    new, borders = _made(text, edits, list(itertools.accumulate(map(len, pieces))))
    return dataclasses.replace(_coded_again(new, borders, codings, sizes), after_prompt=after_prompt)


def opaque(payload: bytes, rules: BodyRules, tally: Tally) -> bytes | None:
    """Bytes without a known structure (protobuf, audio, a socket's messages) under the rules.

    dropped → None; hashed → b"hmac:…"; pseudonymised → as many meaningless bytes; kept → secrets in it
    overwritten in place with "X", so that lengths inside it still hold.
    """
    if rules.contents != "keep" and not (rules.audit and payload_conforms(payload, rules)):
        count(tally, rules.content_kind)
    if rules.contents == "drop":
        return None
    if rules.contents == "hash":
        return rules.pseudonyms.digest(payload).encode()
    if rules.contents == "pseudonymise":
        return rules.pseudonyms.noise(payload)
    text = payload.decode("latin-1")
    for one in rules.finder.find(text):
        count(tally, one.kind)
        text = text[: one.start] + "X" * (one.end - one.start) + text[one.end :]
    return text.encode("latin-1")


def kind_of(raw: bytes, content_type: str) -> str:
    """What a decoded body is: by its content type where that says it, else by its looks."""
    lower = content_type.lower()
    head = raw[:256].lstrip()
    if ("event-stream" in lower and head[:1] not in (b"{", b"[")) or (
        head.startswith((b"data:", b"event:", b"id:", b": ")) and not lower
    ):
        return _STREAM
    if "ndjson" in lower or "jsonl" in lower or "json-seq" in lower:
        return _LINES
    if head[:1] in (b"{", b"["):
        return _LINES if _TWO_LINES.search(raw, 0, 65536) else _JSON
    if "x-www-form-urlencoded" in lower:
        return _FORM
    if "json" in lower:
        return _JSON
    if "multipart/" in lower or b"\0" in raw[:4096]:
        return _OPAQUE
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _OPAQUE
    return _TEXT


def _worth_a_look(raw: bytes, kind: str, rules: BodyRules) -> bool:
    if kind in (_STREAM, _LINES):
        return stream_may_hold_secret(raw, rules.finder)
    return kind == _FORM or may_hold_secret(raw, rules.finder)


def _edits(text: str, kind: str, judge: Judge, rules: BodyRules, tally: Tally) -> list[Edit]:
    if kind == _STREAM:
        parts = [Part(*match.span(1)) for match in _DATA_LINE.finditer(text) if match[1]]
        edits = judge.edits(text, parts)
        return _with_the_rest(text, parts, edits, judge, rules, tally)
    if kind == _LINES:
        return judge.edits(text, [Part(*match.span()) for match in _LINE.finditer(text)])
    if kind == _FORM:
        return settled(_form_edits(text, judge, rules, tally))
    return judge.edits(text, [Part(0, len(text))])


def _with_the_rest(
    text: str, parts: Sequence[Part], edits: list[Edit], judge: Judge, rules: BodyRules, tally: Tally
) -> list[Edit]:
    """Also what stands between the events' data (comments, ids, names of events)."""
    between = zip(
        [0, *(part.end for part in parts)], [*(part.start for part in parts), len(text)], strict=True
    )
    more: list[Edit] = []
    for start, end in between:
        rest = text[start:end]
        found = judge.found(rest) if end - start > _SHORTEST_SECRET else ()
        if rules.contents != "keep":
            found = (*found, *_words_between(rest, rules, tally))
        more += (Edit(edit.start + start, edit.end + start, edit.new) for edit in settled(found))
    return settled((*edits, *more))


def _words_between(rest: str, rules: BodyRules, tally: Tally) -> Iterable[Edit]:
    """What of a stream is neither data nor an identifier goes, where contents do: lines stay, empty."""
    for line in _OTHER_LINE.finditer(rest):
        field, value = line["field"], line["value"].strip()
        known = bool(line["colon"]) and field in _STREAM_FIELDS
        if not line[0] or line[0].strip() == ":" or (known and (not value or looks_like_identifier(value))):
            continue
        count(tally, rules.content_kind)
        yield Edit(*line.span("value"), "") if known else Edit(*line.span(), ":")


def _form_edits(text: str, judge: Judge, rules: BodyRules, tally: Tally) -> Iterable[Edit]:
    for match in _PAIR.finditer(text):
        if not match[2]:
            continue
        name, value = unquote_plus(match[1] or ""), unquote_plus(match[2])
        if name_is_credential(name.lower()) and not (rules.audit and value.startswith(MARKS)):
            count(tally, "assigned_secret", f" {name}")
            yield Edit(*match.span(2), "REDACTED")
        elif rules.contents == "pseudonymise":
            if not (rules.audit and conforms(value, "", rules)):
                count(tally, rules.content_kind, f" {name}")
            _, pseudo = rules.pseudonyms.text(rules.pseudonyms.step(b"", name), value)
            yield Edit(*match.span(2), pseudo.replace(" ", "+"))
        elif found := rules.finder.find(value):
            for one in found:
                count(tally, one.kind, f" {name}")
            yield Edit(*match.span(2), "REDACTED")


def _made(text: str, edits: Sequence[Edit], borders: list[int]) -> tuple[bytes, list[int]]:
    """The new body, and where the reads' borders (in bytes) lie in it."""
    parts: list[bytes] = []
    in_bytes: list[Edit] = []
    sizes: list[int] = []
    at = offset = 0
    for edit in edits:
        before = _bytes(text[at : edit.start])
        old, new = _bytes(text[edit.start : edit.end]), _bytes(edit.new)
        offset += len(before)
        in_bytes.append(Edit(offset, offset + len(old), ""))
        sizes.append(len(new))
        offset += len(old)
        parts += (before, new)
        at = edit.end
    parts.append(_bytes(text[at:]))
    return b"".join(parts), moved(borders, in_bytes, sizes)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _coded_again(
    new: bytes | None, borders: list[int], codings: Sequence[str], sizes: Sequence[int]
) -> RedactedBody:
    if new is None:
        return RedactedBody(None, sizes)
    borders = [min(border, len(new)) for border in borders]
    borders[-1:] = [len(new)]
    pieces = [new[a:b] for a, b in itertools.pairwise([0, *borders])]
    if codings:
        pieces = encoded_pieces(pieces, codings)
    kept = len(pieces) == len(sizes)  # else the sizes never were those of this body
    return RedactedBody(b"".join(pieces), [len(piece) for piece in pieces] if kept else sizes)


def _cut(body: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The body as it was read; in one piece where the reads' sizes don't make it up."""
    if not sizes or sum(sizes) != len(body):
        return [body]
    borders = [0, *itertools.accumulate(sizes)]
    return [body[a:b] for a, b in itertools.pairwise(borders)]
