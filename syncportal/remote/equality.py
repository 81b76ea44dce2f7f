"""When two values of a remote object are the same, although their spelling differs.

Owns: `Comparator`, compiled once per resource from `compared`, `normalize`, the JSON Schema and the pointers that never
count (read-only ones, the version). Guarantees: null and absent are equal everywhere; values are compared by schema
type after normalising (20.0 and 20, "19.25" for a number, three spellings of one time, 0 for false); `digest` agrees
with `equal`; objects are never changed. Pure.
Does not: decide what a difference means, or validate anything against the schema.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.kernel.pointer import MISSING, Missing
from syncportal.remote.normalizers import canonical, normalizer
from syncportal.remote.shapes import Shape, shape_of

_PLAIN = (str, int, float, bool)
_MOST_SHAPES = 500


class Comparator:
    """Decides equality of two objects of one resource, field by field. Immutable and safe to share between threads."""

    def __init__(
        self,
        *,
        compared: tuple[str, ...] = (),
        normalize: Mapping[str, tuple[str, ...]] | None = None,
        schema: Mapping[str, Any] | None = None,
        ignore: tuple[str, ...] = (),
        always: tuple[str, ...] = (),
    ) -> None:
        """Compile the rules.

        `ignore` pointers (a trailing `*` allowed) do not count unless `compared` names them; `always` pointers count
        even below an ignored one.
        """
        self._compared = tuple(sorted(set(compared)))
        self._always = () if compared else tuple(sorted(set(always)))
        self._schema = schema or {}
        self._normalizers = {
            at: tuple(normalizer(name) for name in names) for at, names in (normalize or {}).items() if names
        }
        self._ignored_names = frozenset(
            pointers.parse(at)[0] for at in ignore if "/" not in at[1:] and not at.endswith("*") and at
        )
        self._ignored_starts = tuple(
            pointers.parse(at)[0][:-1] for at in ignore if "/" not in at[1:] and at.endswith("*")
        )
        self._ignored_deep = tuple(at for at in ignore if "/" in at[1:])
        self._shapes: dict[str, Shape] = {}
        self._fields: dict[tuple[tuple[str, ...], ...], tuple[str, ...]] = {}

    def fields(self, *objs: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the pointers that decide equality of `objs`, sorted."""
        if self._compared:
            return self._compared
        shapes = tuple(tuple(obj) for obj in objs)
        found = self._fields.get(shapes)
        if found is None:
            kept = {pointers.build((name,)) for names in shapes for name in names if not self._is_ignored(name)}
            found = tuple(sorted(kept.union(self._always)))
            # A remote's objects mostly have the same members; where each has its own, few are remembered.
            if len(self._fields) < _MOST_SHAPES:
                self._fields[shapes] = found
        return found

    def uncompared(self, *objs: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the top-level places that may be written but do not decide equality; only `compared` makes some."""
        if not self._compared:
            return ()
        covered = {pointers.parse(at)[0] for at in self._compared if at}
        names = {name for obj in objs for name in obj} - covered
        return tuple(sorted(pointers.build((name,)) for name in names if not self._is_ignored(name)))

    def _is_ignored(self, name: str) -> bool:
        return name in self._ignored_names or (bool(self._ignored_starts) and name.startswith(self._ignored_starts))

    def same(self, pointer: str, a: Any, b: Any) -> bool:
        """Say whether `a` and `b` are the same value of the field at `pointer`."""
        if a is b or (type(a) is type(b) and type(a) in _PLAIN and a == b):
            return True
        return bool(self.canonical(pointer, a) == self.canonical(pointer, b))

    def canonical(self, pointer: str, value: Any) -> Any:
        """Return the one spelling of `value` at `pointer` that equality and digest are taken from; None for absent."""
        if value is None or isinstance(value, Missing):
            value = None
        shape = self._shape(pointer)
        if self._ignored_deep and isinstance(value, (dict, list)):
            for at in self._ignored_deep:
                if at.startswith(pointer + "/"):
                    value = pointers.remove(value, at[len(pointer) :])
        return canonical(value, shape=shape, at=pointer, normalizers=self._normalizers)

    def type_of(self, pointer: str) -> str:
        """Return the schema's type of the value at `pointer`, "" when it names none or several."""
        return self._shape(pointer).type

    def _shape(self, pointer: str) -> Shape:
        shape = self._shapes.get(pointer)
        if shape is None:
            shape = self._shapes[pointer] = shape_of(self._schema, pointer)
        return shape

    def equal(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        """Say whether two objects agree in every field that counts."""
        return all(self.same(at, pointers.get(a, at, None), pointers.get(b, at, None)) for at in self.fields(a, b))

    def differing(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the pointers in which two objects differ, sorted."""
        if a is b:
            return ()
        return tuple(
            at
            for at in self.fields(a, b)
            if not self.same(at, pointers.get(a, at, MISSING), pointers.get(b, at, MISSING))
        )

    def digest(self, obj: Mapping[str, Any]) -> str:
        """Return a SHA-256 in hex over the canonical values of every field that counts and is not null."""
        values = ((at, self.canonical(at, pointers.get(obj, at, None))) for at in self.fields(obj))
        text = json.dumps([pair for pair in values if pair[1] is not None], separators=(",", ":"), default=_tagged)
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _tagged(number: Any) -> str:
    return f"\x00{number}"  # a text cannot hold NUL, so a fraction never meets a text that spells it
