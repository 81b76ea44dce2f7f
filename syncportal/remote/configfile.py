"""Reading a configuration file: YAML or JSON, safely and without surprises.

Owns: `parse`. Guarantees: only plain JSON values come out (no dates, no octal or base-60 numbers, `on` and `no` stay
texts); a key given twice, a text that is too long, too deep, or that unfolds too far is refused with its line.
Does not: know what the keys mean.
"""

import re
from typing import Any

import yaml

from syncportal.kernel import strict_json
from syncportal.kernel.strict_json import StrictJsonError
from syncportal.remote.rules import Problem

MAX_BYTES = 2 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 60
_TOO_DEEP = f"the file is nested deeper than {MAX_DEPTH}"


class ConfigurationInvalid(Exception):
    """The configuration was refused; `problems` lists everything that is wrong. Nothing was changed."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems[:5]))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """YAML's JSON-like core only, and no key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # A thousand open brackets would take PyYAML a second until Python's own limit stops it.
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, _TOO_DEEP, self.peek_event().start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"a key must be a text: {key!r}", node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice, again in line {line}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,30})\Z", "-+0123456789"),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?\Z", "-+0123456789."),
    ("merge", r"<<\Z", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def parse(text: str, *, filename: str = "") -> Any:
    """Return the document in `text`; a name ending in .json, or a text that begins with {, is JSON.

    Raises ConfigurationInvalid.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigurationInvalid([Problem("", f"the file is larger than {MAX_BYTES // 1024} KiB")])
    try:
        if filename.lower().endswith(".json") or text.lstrip("\ufeff \t\r\n").startswith("{"):
            document = _json(text)
        else:
            document = _yaml(text)
        if _count(document, depth=0, left=MAX_NODES) < 0:
            raise ConfigurationInvalid([Problem("", "the file unfolds to too many values")])
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigurationInvalid([Problem("", f"{problem.problem or 'not YAML'}{where}")]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        raise ConfigurationInvalid([Problem("", f"the file cannot be read: {str(problem)[:200]}")]) from None
    return document


def _yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _json(text: str) -> Any:
    try:
        return strict_json.loads(text.lstrip("\ufeff"), max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
    except StrictJsonError as problem:
        if problem.code == "syntax":
            # A YAML flow mapping also begins with a brace.
            try:
                return _yaml(text)
            except yaml.YAMLError:
                pass
        raise ConfigurationInvalid([Problem("", problem.message)]) from None


def _count(value: Any, *, depth: int, left: int) -> int:
    """Return how many values may still come after `value`; negative when there are too many or it is too deep."""
    if depth > MAX_DEPTH:
        raise ConfigurationInvalid([Problem("", _TOO_DEEP)])
    left -= 1
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for inner in inside:
        if left < 0:
            return left
        left = _count(inner, depth=depth + 1, left=left)
    return left
