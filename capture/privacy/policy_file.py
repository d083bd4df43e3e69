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

from capture.privacy.body_rules import CONTENT_POLICIES
from capture.privacy.json_paths import ACTIONS, PathRule
from capture.privacy.secret_patterns import DEFAULT_KINDS, OPTIONAL_KINDS, OwnPattern
from capture.redaction import RedactionPolicy
from capture.yaml_file import YamlReader, listed, load_yaml, told

SHORTEST_KEY: Final = 32
SMALLEST_BLOCK, LARGEST_BLOCK = 4, 512
_WHERE: Final = ("request", "response", "both")
_NAME: Final = re.compile(r"[A-Za-z][\w.-]{0,63}")


def read_policy(path: Path, environment: Mapping[str, str] = os.environ) -> RedactionPolicy:
    """The policy in the YAML file `path`. A key is taken from `environment` where the file names a variable.

    Raises `BadInput` with `file:line: found, wanted`.
    """
    document = load_yaml(path, "a policy file")
    return _Reader(str(path), environment).policy(document)


def policy_of(path: Path | None, further_names: Sequence[str] = ()) -> RedactionPolicy:
    """The policy of the file, or the default one without a file, that redacts `further_names` as well."""
    policy = RedactionPolicy() if path is None else read_policy(path)
    names = dict.fromkeys((*policy.extra_names, *further_names))
    return dataclasses.replace(policy, extra_names=tuple(names))


class _Reader(YamlReader):
    """Turns the loaded document into a policy."""

    def __init__(self, place: str, environment: Mapping[str, str]) -> None:
        super().__init__(place)
        self._environment = environment

    def policy(self, document: Any) -> RedactionPolicy:
        if document is None:
            return RedactionPolicy(name=Path(self.place).stem)
        top = self.mapping(
            document, "the policy", ("name", "headers", "query", "json", "secrets", "contents")
        )
        headers = self.below(top, "headers", ("keep", "redact"))
        query = self.below(top, "query", ("redact",))
        secrets = self.below(top, "secrets", ("also", "except", "patterns"))
        contents = self.below(
            top, "contents", ("prompts", "completions", "block_tokens", "tokenizer", "key_env")
        )
        redact = (*self._names(headers, "redact"), *self._names(query, "redact"))
        given: dict[str, Any] = {
            "name": self.text(top, "name", Path(self.place).stem),
            "extra_names": tuple(dict.fromkeys(redact)),
            "kept_headers": self._names(headers, "keep"),
            "paths": tuple(self._path(rule) for rule in self.items(top, "json")),
            "kinds": self._kinds(secrets),
            "own_patterns": tuple(self._pattern(own) for own in self.items(secrets, "patterns")),
            "prompts": self.one_of(contents, "prompts", CONTENT_POLICIES, "keep"),
            "completions": self.one_of(contents, "completions", CONTENT_POLICIES, "keep"),
            **self._block_tokens(contents),
            **self._tokenizer(contents),
            **self._key(contents),
        }
        return RedactionPolicy(**given)

    def _names(self, holder: Mapping[str, Any], key: str) -> tuple[str, ...]:
        names = []
        for item, line in self.items(holder, key):
            if not isinstance(item, str) or not item or not item.isprintable() or " " in item:
                raise self.refused(
                    line, f"{key}: {told(item)} found, the name of a header or parameter wanted"
                )
            names.append(item)
        return tuple(names)

    def _path(self, item: tuple[Any, int]) -> PathRule:
        rule = self.mapping(item[0], "a rule", ("path", "action", "in"), item[1])
        path = self.text(rule, "path", None, item[1])
        action = self.one_of(rule, "action", ACTIONS, None, item[1])
        where = self.one_of(rule, "in", _WHERE, "both")
        try:
            return PathRule(path, action, where)
        except ValueError as error:
            wanted = "a path such as $.user, $.messages[*].name or $..ssn wanted"
            raise self.refused(self.line(rule, "path"), f"{path!r} found ({error}); {wanted}") from error

    def _pattern(self, item: tuple[Any, int]) -> OwnPattern:
        own = self.mapping(item[0], "a pattern", ("name", "regex"), item[1])
        name, regex = self.text(own, "name", None, item[1]), self.text(own, "regex", None, item[1])
        if not _NAME.fullmatch(name):
            wanted = "letters, digits, '_', '-' and '.' wanted"
            raise self.refused(self.line(own, "name"), f"name: {name!r} found, {wanted}")
        try:
            found_in_nothing = re.compile(regex).search("")
        except re.error as error:
            wanted = "a regular expression (Python's re) wanted"
            raise self.refused(self.line(own, "regex"), f"{regex!r} found ({error}); {wanted}") from error
        if found_in_nothing:
            raise self.refused(
                self.line(own, "regex"),
                f"{regex!r} found, which matches nothing at all; one that needs text wanted",
            )
        return OwnPattern(name, regex)

    def _kinds(self, secrets: Mapping[str, Any]) -> tuple[str, ...]:
        chosen = set(DEFAULT_KINDS)
        for key, known, change in (
            ("also", OPTIONAL_KINDS, chosen.add),
            ("except", DEFAULT_KINDS, chosen.discard),
        ):
            for item, line in self.items(secrets, key):
                if item not in known:
                    raise self.refused(line, f"{key}: {told(item)} found, one of {listed(known)} wanted")
                change(item)
        return tuple(kind for kind in (*DEFAULT_KINDS, *OPTIONAL_KINDS) if kind in chosen)

    def _block_tokens(self, contents: Mapping[str, Any]) -> dict[str, int]:
        found = contents.get("block_tokens")
        if found is None:
            return {}
        if type(found) is not int or not SMALLEST_BLOCK <= found <= LARGEST_BLOCK:
            wanted = f"a whole number from {SMALLEST_BLOCK} to {LARGEST_BLOCK} wanted"
            raise self.refused(
                self.line(contents, "block_tokens"), f"block_tokens: {told(found)} found, {wanted}"
            )
        return {"block_tokens": found}

    def _tokenizer(self, contents: Mapping[str, Any]) -> dict[str, Any]:
        named = self.text(contents, "tokenizer", "")
        if not named:
            return {}
        from capture.privacy.tokenizers import TokenizerCut

        try:
            cut = TokenizerCut(Path(self.place).parent / named)
            return {"tokenizer": cut.digest, "cut": cut}
        except ValueError as error:
            raise self.refused(self.line(contents, "tokenizer"), f"tokenizer: {error}") from error

    def _key(self, contents: Mapping[str, Any]) -> dict[str, bytes]:
        variable = self.text(contents, "key_env", "")
        if not variable:
            return {}
        key = self._environment.get(variable, "")
        if len(key) < SHORTEST_KEY:
            found = f"{len(key)} characters" if key else "not set"
            raise self.refused(
                self.line(contents, "key_env"),
                f"key_env: {variable}: {found}, at least {SHORTEST_KEY} characters wanted; "
                "set it, or leave key_env out for a key that dies with the capture",
            )
        return {"key": key.encode()}
