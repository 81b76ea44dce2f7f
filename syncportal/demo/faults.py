"""Which fault a request meets: rules by collection, object, method, phase, rate, count and script.

Owns: the rules that are on and their counters. Guarantees: the same seed and requests give the same faults;
any thread may switch rules.
Does not: carry a fault out; `server` and `distort` do.
"""

import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncportal.demo.kinds import PRESETS, Fault, FaultError, fault_from, make_fault
from syncportal.demo.messages import READ_PHASES, Call

PHASES = ("", "list", "detail", "create", "update", "delete", "read", "write")


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Which requests a rule covers; empty means any. `phase` read = list and detail, write = the other three."""

    collection: str = ""
    object_id: str = ""
    methods: tuple[str, ...] = ()
    phase: str = ""

    def covers(self, call: Call) -> bool:
        """Tell whether a request is meant."""
        return (
            (not self.collection or self.collection == call.collection)
            and (not self.object_id or self.object_id == call.object_id)
            and (not self.methods or call.method in self.methods)
            and (
                not self.phase
                or self.phase == call.phase
                or (self.phase == "read" and call.phase in READ_PHASES)
                or (self.phase == "write" and call.phase not in READ_PHASES)
            )
        )


@dataclass(slots=True)
class Rule:
    """One switched-on rule. `times` counts down (None = until switched off); a script is consumed step by step."""

    number: int
    name: str
    match: Match
    fault: Fault | None
    script: list[Fault | None] | None = None
    rate: float = 1.0
    times: int | None = None
    skip: int = 0
    hits: int = 0

    @property
    def spent(self) -> bool:
        """Tell whether the rule has nothing left to do."""
        return self.times == 0 or (self.script is not None and not self.script)

    def as_json(self) -> dict[str, Any]:
        """Describe the rule for the control API."""
        kind = self.fault.kind if self.fault else "script"
        shown: dict[str, Any] = {"number": self.number, "name": self.name, "kind": kind, "hits": self.hits}
        shown |= {"settings": dict(self.fault.settings)} if self.fault else {"left": len(self.script or ())}
        shown |= {"rate": self.rate, "times": self.times, "skip": self.skip}
        return shown | {
            "collection": self.match.collection,
            "object_id": self.match.object_id,
            "methods": list(self.match.methods),
            "phase": self.match.phase,
        }


class FaultBook:
    """The rules that are switched on, in order; the first rule that strikes wins, latencies add up."""

    def __init__(self, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self._made = 0

    def add(
        self,
        kind: str,
        *,
        collection: str = "",
        object_id: str = "",
        methods: Iterable[str] | str = (),
        phase: str = "",
        rate: float = 1.0,
        times: int | None = None,
        skip: int = 0,
        name: str = "",
        **settings: Any,
    ) -> Rule:
        """Switch a fault on. `times`: only the next N hits; `skip`: spare the first N matches. Raises FaultError."""
        match = _match(collection, object_id, methods, phase)
        if not 0 < float(rate) <= 1:
            raise FaultError("rate must be above 0 and at most 1")
        return self._append(
            match, name=name, fault=make_fault(kind, **settings), rate=float(rate), times=times, skip=skip
        )

    def script(
        self,
        steps: Sequence[str | Mapping[str, Any] | None],
        *,
        collection: str = "",
        object_id: str = "",
        methods: Iterable[str] | str = (),
        phase: str = "",
        name: str = "",
    ) -> Rule:
        """Let the next matching requests meet these faults in order; None or "ok" lets one pass. Raises FaultError."""
        faults = [None if step in (None, "ok") else fault_from(step) for step in steps]
        return self._append(_match(collection, object_id, methods, phase), name=name, fault=None, script=faults)

    def add_json(self, rule: Mapping[str, Any]) -> Rule:
        """Switch on what the control API describes: a preset, a script or a kind. Raises FaultError."""
        given = dict(rule)
        preset = given.pop("preset", None)
        if preset is not None:
            if preset not in PRESETS:
                raise FaultError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
            self.remove(preset)
            given = {"name": preset, **PRESETS[preset][1], **given}
        settings = given.pop("settings", {})
        try:
            if "script" in given:
                return self.script(given.pop("script"), **given)
            return self.add(given.pop("kind", ""), **given, **settings)
        except TypeError as error:
            raise FaultError(f"not a fault rule: {error}") from None

    def remove(self, which: int | str) -> int:
        """Switch off by number, name or kind; return how many rules went."""
        key = str(which)
        with self._lock:
            kept = [
                rule for rule in self._rules if key not in (str(rule.number), rule.name, rule.fault and rule.fault.kind)
            ]
            gone = len(self._rules) - len(kept)
            self._rules = kept
            return gone

    def clear(self) -> int:
        """Switch everything off; return how many rules went."""
        with self._lock:
            gone = len(self._rules)
            self._rules = []
            return gone

    def rules(self) -> list[Rule]:
        """Return the rules that are on."""
        with self._lock:
            return list(self._rules)

    def pick(self, call: Call) -> tuple[Fault, ...]:
        """Decide which faults this request meets: any number of latencies and at most one other; counts the hit."""
        if not self._rules:
            return ()
        chosen: list[Fault] = []
        with self._lock:
            for rule in self._rules:
                if not rule.match.covers(call) or rule.spent:
                    continue
                settled = any(fault.kind != "latency" for fault in chosen)
                if settled and (rule.fault is None or rule.fault.kind != "latency"):
                    continue
                fault = self._strike(rule)
                if fault is not None:
                    chosen.append(fault)
            self._rules = [rule for rule in self._rules if not rule.spent]
        return tuple(chosen)

    def _strike(self, rule: Rule) -> Fault | None:
        if rule.skip:
            rule.skip -= 1
            return None
        if rule.rate < 1 and self._random.random() >= rule.rate:
            return None
        rule.hits += 1
        if rule.script is not None:
            return rule.script.pop(0)
        if rule.times is not None:
            rule.times -= 1
        return rule.fault

    def _append(self, match: Match, *, name: str, fault: Fault | None, **options: Any) -> Rule:
        with self._lock:
            self._made += 1
            rule = Rule(self._made, name, match, fault, **options)
            self._rules.append(rule)
            return rule


def _match(collection: str, object_id: str, methods: Iterable[str] | str, phase: str) -> Match:
    if phase not in PHASES:
        raise FaultError(f"unknown phase {phase!r}; known: {', '.join(filter(None, PHASES))}")
    listed = methods.replace(",", " ").split() if isinstance(methods, str) else methods
    return Match(collection=collection, object_id=object_id, methods=tuple(m.upper() for m in listed), phase=phase)
