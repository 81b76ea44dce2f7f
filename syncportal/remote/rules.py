"""Small rules that check configuration and name every problem with its place.

Owns: `Problem` and the building blocks (texts, numbers, choices, pointers, objects, lists, maps). Guarantees: a rule
reports all problems below it, never raises, and never quotes a value that could be a secret. Pure.
Does not: know any knob; knob_rules.py puts the blocks together.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.kernel import strict_json
from syncportal.kernel.pointer import PointerError

MAX_QUOTED = 60


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong and where: `pointer` is a JSON Pointer into the checked document."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.message}"


Found = list[Problem]
Rule = Callable[[Any, str, Found], None]


def below(at: str, name: str | int) -> str:
    """Return the pointer of a member."""
    return at + pointers.build((str(name),))


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint at what was meant: the nearest valid name, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "valid are " + ", ".join(names)


def quoted(value: Any) -> str:
    """Return a short picture of a wrong value."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"


def text(*, empty: bool = False, limit: int = 2000) -> Rule:
    """Accept a text."""

    def check(value: Any, at: str, found: Found) -> None:
        if not isinstance(value, str):
            found.append(Problem(at, f"must be a text, not {quoted(value)}"))
        elif not value and not empty:
            found.append(Problem(at, "must not be empty"))
        elif len(value) > limit:
            found.append(Problem(at, f"is too long (at most {limit} characters)"))
        elif not value.isprintable():
            found.append(Problem(at, "holds line breaks or control characters"))

    return check


def number(*, least: float = 0, most: float = 1e9, above: float | None = None, whole: bool = False) -> Rule:
    """Accept a number in a range; `above` excludes the bound itself."""

    def check(value: Any, at: str, found: Found) -> None:
        kind = "a whole number" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value != value:
            found.append(Problem(at, f"must be {kind}, not {quoted(value)}"))
        elif above is not None and value <= above:
            found.append(Problem(at, f"must be greater than {above:g}"))
        elif value < least or value > most:
            found.append(Problem(at, f"must be between {least:g} and {most:g}"))

    return check


def boolean(value: Any, at: str, found: Found) -> None:
    """Accept true or false."""
    if not isinstance(value, bool):
        found.append(Problem(at, f"must be true or false, not {quoted(value)}"))


def anything(value: Any, at: str, found: Found) -> None:
    """Accept any JSON value: what cannot be written as JSON could be neither stored nor sent."""
    try:
        strict_json.dumps(value)
    except strict_json.StrictJsonError as problem:
        found.append(Problem(at, problem.message))


def choice(*options: str, any_case: bool = False) -> Rule:
    """Accept one of some words."""

    def check(value: Any, at: str, found: Found) -> None:
        given = value.upper() if any_case and isinstance(value, str) else value
        if not isinstance(given, str) or given not in options:
            hint = nearest(given, options) if isinstance(given, str) else "valid are " + ", ".join(options)
            found.append(Problem(at, f"{quoted(value)} is not valid; {hint}"))

    return check


def pointer(*, pattern: bool = False, root: bool = False) -> Rule:
    """Accept a JSON Pointer; `pattern` allows a trailing `*`, `root` the empty one."""

    def check(value: Any, at: str, found: Found) -> None:
        if not isinstance(value, str):
            found.append(Problem(at, f"must be a JSON Pointer such as /name, not {quoted(value)}"))
            return
        before = len(found)
        anything(value, at, found)
        if len(found) > before:
            return
        try:
            names = pointers.parse(value)
        except PointerError as problem:
            hint = f"; write /{value.replace('.', '/')}" if value and not value.startswith("/") else ""
            found.append(Problem(at, f"{problem}{hint}"))
            return
        if not names and not root:
            found.append(Problem(at, "must name a place, not the whole object"))
        elif not pattern and names and names[-1] == "*":
            found.append(Problem(at, "a * is not allowed here"))

    return check


def one_or_many(rule: Rule, *, least: int = 0) -> Rule:
    """Accept a value, or a list of such values."""

    def check(value: Any, at: str, found: Found) -> None:
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            rule(value, at, found)
            return
        many(rule, least=least)(value, at, found)

    return check


def many(rule: Rule, *, least: int = 0, most: int = 1000) -> Rule:
    """Accept a list."""

    def check(value: Any, at: str, found: Found) -> None:
        if not isinstance(value, list):
            found.append(Problem(at, f"must be a list, not {quoted(value)}"))
        elif not least <= len(value) <= most:
            found.append(Problem(at, f"must have {least} to {most} entries"))
        else:
            for index, inner in enumerate(value):
                rule(inner, below(at, index), found)

    return check


def mapping(name: Rule, value_rule: Rule, *, least: int = 0) -> Rule:
    """Accept an object whose names and values each keep a rule."""

    def check(value: Any, at: str, found: Found) -> None:
        if not isinstance(value, dict):
            found.append(Problem(at, f"must be a mapping, not {quoted(value)}"))
            return
        if len(value) < least:
            found.append(Problem(at, "must not be empty"))
        for key, inner in value.items():
            name(key, below(at, key), found)
            value_rule(inner, below(at, key), found)

    return check


def record(keys: Mapping[str, Rule], *, required: tuple[str, ...] = ()) -> Rule:
    """Accept an object with known names only; an unknown one is answered with the nearest valid name."""

    def check(value: Any, at: str, found: Found) -> None:
        if not isinstance(value, dict):
            found.append(Problem(at, f"must be a mapping, not {quoted(value)}"))
            return
        for key, inner in value.items():
            rule = keys.get(key)
            if rule is None:
                found.append(Problem(below(at, key), f"unknown key {key!r}; {nearest(str(key), keys)}"))
            elif inner is None:
                found.append(Problem(below(at, key), "has no value: remove the key or give one"))
            else:
                rule(inner, below(at, key), found)
        for key in required:
            if key not in value:
                found.append(Problem(at, f"{key!r} is missing"))

    return check


def both(*rules: Rule) -> Rule:
    """Apply rules one after another; the later ones only where the earlier found nothing."""

    def check(value: Any, at: str, found: Found) -> None:
        for rule in rules:
            before = len(found)
            rule(value, at, found)
            if len(found) > before:
                return

    return check
