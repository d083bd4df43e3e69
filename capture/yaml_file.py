"""YAML files that people write: read whole, with the line of whatever is refused in them; and written.

What a file says, and which keys it may have, its own reader knows (`privacy.policy_file`, for one).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capture.failures import BadInput
from capture.quantities import LARGEST, quoted


def load_yaml(path: Path, what: str, *, lines: bool = True) -> Any:
    """The document in `path`, None for an empty one; `what` names the kind of file in errors.

    Mappings and lists know their lines (see `YamlReader`), or, far quicker, don't. Raises `BadInput` with
    `file:line`.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{path}: can't be read ({error.strerror}); {what} wanted") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start}: not UTF-8 text; {what} (YAML) wanted") from error
    try:
        return YAML(typ="rt" if lines else "safe").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise BadInput(f"{path}{line}: {problem}; valid YAML wanted") from error
    except (YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}; valid YAML wanted") from error
    except RecursionError as error:
        raise BadInput(f"{path}: lists or mappings in one another beyond measure; {what} wanted") from error


def yaml_text(document: Mapping[str, Any]) -> str:
    """A document as YAML text, its innermost lists and mappings on one line each."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 1_000_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


class YamlReader:
    """Takes values out of a loaded document; knows the line of whatever it refuses."""

    def __init__(self, place: str) -> None:
        self.place = place

    def mapping(self, found: Any, what: str, keys: Sequence[str], line: int = 1) -> Mapping[str, Any]:
        """`found` itself when it is a mapping with none but `keys`."""
        if not isinstance(found, Mapping):
            raise self.refused(line, f"{what}: {told(found)} found, a mapping with {listed(keys)} wanted")
        for key in found:
            if key not in keys:
                raise self.refused(self.line(found, key), f"{told(key)} found, one of {listed(keys)} wanted")
        return found

    def below(self, holder: Mapping[str, Any], key: str, keys: Sequence[str]) -> Mapping[str, Any]:
        """The mapping under `key`, empty where there is none."""
        if holder.get(key) is None:
            return {}
        return self.mapping(holder[key], key, keys, self.line(holder, key))

    def items(self, holder: Mapping[str, Any], key: str) -> Sequence[tuple[Any, int]]:
        """The items of the list under `key`, each with its line; none where there is no list."""
        found = holder.get(key)
        if found is None:
            return ()
        if not isinstance(found, list):
            raise self.refused(self.line(holder, key), f"{key}: {told(found)} found, a list wanted")
        return [(item, self.line(found, i)) for i, item in enumerate(found)]

    def text(self, holder: Mapping[str, Any], key: str, default: str | None, line: int = 1) -> str:
        """The text under `key`; without a default one must be there."""
        found = holder.get(key, default)
        if found is None:
            raise self.refused(line, f"no {key} found, one wanted")
        if not isinstance(found, str):
            raise self.refused(self.line(holder, key), f"{key}: {told(found)} found, a text wanted")
        return str(found)

    def one_of(
        self, holder: Mapping[str, Any], key: str, known: Sequence[str], default: str | None, line: int = 1
    ) -> Any:
        """The text under `key`, which is one of `known`."""
        found = holder.get(key, default)
        if found not in known:
            line = self.line(holder, key) if key in holder else line
            shown = told(found) if key in holder else "nothing"
            raise self.refused(line, f"{key}: {shown} found, one of {listed(known)} wanted")
        return str(found)

    def line(self, holder: Any, key: Any) -> int:
        """The line on which `key` (or item number `key`) stands, from 1."""
        try:
            where = holder.lc.item(key) if isinstance(key, int) else holder.lc.key(key)
            return int(where[0]) + 1
        except (AttributeError, KeyError, TypeError):
            return 1

    def refused(self, line: int, text: str) -> BadInput:
        """The failure to raise, with its line."""
        return BadInput(f"{self.place}:{line}: {text}")


def told(found: Any) -> str:
    """What was found, for a person."""
    if isinstance(found, Mapping):
        return "a mapping"
    if isinstance(found, list):
        return "a list"
    if found is None:
        return "nothing"
    # Python shows no int of more than 4,300 digits, and nobody reads one of 30.
    whole = isinstance(found, int) and abs(found) < LARGEST
    return repr(found) if whole or isinstance(found, float) else quoted(str(found))


def listed(names: Sequence[str]) -> str:
    """Names for a person."""
    return ", ".join(names)
