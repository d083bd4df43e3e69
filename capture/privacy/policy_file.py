"""A redaction policy as YAML; what is wrong in it is refused with its line, what was found and wanted.

`samples/redaction.yml` shows and explains every key.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capture.failures import BadInput
from capture.privacy.body_rules import CONTENT_POLICIES
from capture.privacy.json_paths import ACTIONS, PathRule
from capture.privacy.secret_patterns import DEFAULT_KINDS, OPTIONAL_KINDS, OwnPattern
from capture.redaction import RedactionPolicy

SHORTEST_KEY: Final = 32
SMALLEST_BLOCK, LARGEST_BLOCK = 4, 512
_WHERE: Final = ("request", "response", "both")
_NAME: Final = re.compile(r"[A-Za-z][\w.-]{0,63}")


def read_policy(path: Path, environment: Mapping[str, str] = os.environ) -> RedactionPolicy:
    """The policy in the YAML file `path`. A key is taken from `environment` where the file names a variable.

    Raises `BadInput` with `file:line: found, wanted`.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); a policy file wanted") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start}: not UTF-8 text; a policy file (YAML) wanted") from error
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise BadInput(f"{path}{line}: {problem}; valid YAML wanted") from error
    except (YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}; valid YAML wanted") from error
    return _Reader(str(path), environment).policy(document)


def policy_of(path: Path | None, further_names: Sequence[str] = ()) -> RedactionPolicy:
    """The policy of the file, or the default one without a file, that redacts `further_names` as well."""
    policy = RedactionPolicy() if path is None else read_policy(path)
    names = dict.fromkeys((*policy.extra_names, *further_names))
    return dataclasses.replace(policy, extra_names=tuple(names))


class _Reader:
    """Turns the loaded document into a policy; knows the line of whatever it refuses."""

    def __init__(self, place: str, environment: Mapping[str, str]) -> None:
        self._place = place
        self._environment = environment

    def policy(self, document: Any) -> RedactionPolicy:
        if document is None:
            return RedactionPolicy(name=Path(self._place).stem)
        top = self._mapping(
            document, "the policy", ("name", "headers", "query", "json", "secrets", "contents")
        )
        headers = self._below(top, "headers", ("keep", "redact"))
        query = self._below(top, "query", ("redact",))
        secrets = self._below(top, "secrets", ("also", "except", "patterns"))
        contents = self._below(
            top, "contents", ("prompts", "completions", "block_tokens", "tokenizer", "key_env")
        )
        redact = (*self._names(headers, "redact"), *self._names(query, "redact"))
        given: dict[str, Any] = {
            "name": self._text(top, "name", Path(self._place).stem),
            "extra_names": tuple(dict.fromkeys(redact)),
            "kept_headers": self._names(headers, "keep"),
            "paths": tuple(self._path(rule) for rule in self._items(top, "json")),
            "kinds": self._kinds(secrets),
            "own_patterns": tuple(self._pattern(own) for own in self._items(secrets, "patterns")),
            "prompts": self._one_of(contents, "prompts", CONTENT_POLICIES, "keep"),
            "completions": self._one_of(contents, "completions", CONTENT_POLICIES, "keep"),
            **self._block_tokens(contents),
            **self._tokenizer(contents),
            **self._key(contents),
        }
        return RedactionPolicy(**given)

    def _mapping(self, found: Any, what: str, keys: Sequence[str], line: int = 1) -> Mapping[str, Any]:
        if not isinstance(found, Mapping):
            raise self._refused(line, f"{what}: {_told(found)} found, a mapping with {_listed(keys)} wanted")
        for key in found:
            if key not in keys:
                raise self._refused(self._line(found, key), f"{key!r} found, one of {_listed(keys)} wanted")
        return found

    def _below(self, holder: Mapping[str, Any], key: str, keys: Sequence[str]) -> Mapping[str, Any]:
        if holder.get(key) is None:
            return {}
        return self._mapping(holder[key], key, keys, self._line(holder, key))

    def _items(self, holder: Mapping[str, Any], key: str) -> Sequence[Any]:
        found = holder.get(key)
        if found is None:
            return ()
        if not isinstance(found, list):
            raise self._refused(self._line(holder, key), f"{key}: {_told(found)} found, a list wanted")
        return [(item, self._line(found, i)) for i, item in enumerate(found)]

    def _names(self, holder: Mapping[str, Any], key: str) -> tuple[str, ...]:
        names = []
        for item, line in self._items(holder, key):
            if not isinstance(item, str) or not item or not item.isprintable() or " " in item:
                raise self._refused(
                    line, f"{key}: {_told(item)} found, the name of a header or parameter wanted"
                )
            names.append(item)
        return tuple(names)

    def _path(self, item: tuple[Any, int]) -> PathRule:
        rule = self._mapping(item[0], "a rule", ("path", "action", "in"), item[1])
        path = self._text(rule, "path", None, item[1])
        action = self._one_of(rule, "action", ACTIONS, None, item[1])
        where = self._one_of(rule, "in", _WHERE, "both")
        try:
            return PathRule(path, action, where)
        except ValueError as error:
            wanted = "a path such as $.user, $.messages[*].name or $..ssn wanted"
            raise self._refused(self._line(rule, "path"), f"{path!r} found ({error}); {wanted}") from error

    def _pattern(self, item: tuple[Any, int]) -> OwnPattern:
        own = self._mapping(item[0], "a pattern", ("name", "regex"), item[1])
        name, regex = self._text(own, "name", None, item[1]), self._text(own, "regex", None, item[1])
        if not _NAME.fullmatch(name):
            wanted = "letters, digits, '_', '-' and '.' wanted"
            raise self._refused(self._line(own, "name"), f"name: {name!r} found, {wanted}")
        try:
            found_in_nothing = re.compile(regex).search("")
        except re.error as error:
            wanted = "a regular expression (Python's re) wanted"
            raise self._refused(self._line(own, "regex"), f"{regex!r} found ({error}); {wanted}") from error
        if found_in_nothing:
            raise self._refused(
                self._line(own, "regex"),
                f"{regex!r} found, which matches nothing at all; one that needs text wanted",
            )
        return OwnPattern(name, regex)

    def _kinds(self, secrets: Mapping[str, Any]) -> tuple[str, ...]:
        chosen = set(DEFAULT_KINDS)
        for key, known, change in (
            ("also", OPTIONAL_KINDS, chosen.add),
            ("except", DEFAULT_KINDS, chosen.discard),
        ):
            for item, line in self._items(secrets, key):
                if item not in known:
                    raise self._refused(line, f"{key}: {_told(item)} found, one of {_listed(known)} wanted")
                change(item)
        return tuple(kind for kind in (*DEFAULT_KINDS, *OPTIONAL_KINDS) if kind in chosen)

    def _block_tokens(self, contents: Mapping[str, Any]) -> dict[str, int]:
        found = contents.get("block_tokens")
        if found is None:
            return {}
        if type(found) is not int or not SMALLEST_BLOCK <= found <= LARGEST_BLOCK:
            wanted = f"a whole number from {SMALLEST_BLOCK} to {LARGEST_BLOCK} wanted"
            raise self._refused(
                self._line(contents, "block_tokens"), f"block_tokens: {_told(found)} found, {wanted}"
            )
        return {"block_tokens": found}

    def _tokenizer(self, contents: Mapping[str, Any]) -> dict[str, Any]:
        named = self._text(contents, "tokenizer", "")
        if not named:
            return {}
        from capture.privacy.tokenizers import TokenizerCut

        try:
            cut = TokenizerCut(Path(self._place).parent / named)
            return {"tokenizer": cut.digest, "cut": cut}
        except ValueError as error:
            raise self._refused(self._line(contents, "tokenizer"), f"tokenizer: {error}") from error

    def _key(self, contents: Mapping[str, Any]) -> dict[str, bytes]:
        variable = self._text(contents, "key_env", "")
        if not variable:
            return {}
        key = self._environment.get(variable, "")
        if len(key) < SHORTEST_KEY:
            found = f"{len(key)} characters" if key else "not set"
            raise self._refused(
                self._line(contents, "key_env"),
                f"key_env: {variable}: {found}, at least {SHORTEST_KEY} characters wanted; "
                "set it, or leave key_env out for a key that dies with the capture",
            )
        return {"key": key.encode()}

    def _text(self, holder: Mapping[str, Any], key: str, default: str | None, line: int = 1) -> str:
        found = holder.get(key, default)
        if found is None:
            raise self._refused(line, f"no {key} found, one wanted")
        if not isinstance(found, str):
            raise self._refused(self._line(holder, key), f"{key}: {_told(found)} found, a text wanted")
        return str(found)

    def _one_of(
        self, holder: Mapping[str, Any], key: str, known: Sequence[str], default: str | None, line: int = 1
    ) -> Any:
        found = holder.get(key, default)
        if found not in known:
            line = self._line(holder, key) if key in holder else line
            told = _told(found) if key in holder else "nothing"
            raise self._refused(line, f"{key}: {told} found, one of {_listed(known)} wanted")
        return str(found)

    def _line(self, holder: Any, key: Any) -> int:
        """The line on which `key` (or item number `key`) stands."""
        try:
            where = holder.lc.item(key) if isinstance(key, int) else holder.lc.key(key)
            return int(where[0]) + 1
        except (AttributeError, KeyError, TypeError):
            return 1

    def _refused(self, line: int, text: str) -> BadInput:
        return BadInput(f"{self._place}:{line}: {text}")


def _told(found: Any) -> str:
    if isinstance(found, Mapping):
        return "a mapping"
    if isinstance(found, list):
        return "a list"
    return (
        "nothing" if found is None else repr(found if isinstance(found, bool | int | float) else str(found))
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
