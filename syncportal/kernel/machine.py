"""State machines as data: legal moves are rows, and the diagram in the docs is printed from them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """One legal move: from any of `sources` to one of `targets` (empty: the status stays)."""

    name: str
    sources: frozenset[str]
    targets: tuple[str, ...]
    when: str


def verb(name: str, sources: Iterable[str], targets: Iterable[str], when: str) -> Verb:
    """Build a Verb from plain iterables of statuses."""
    return Verb(name, frozenset(map(str, sources)), tuple(map(str, targets)), when)


def mermaid(verbs: Iterable[Verb], *, start: str) -> str:
    """Print the moves as a Mermaid state diagram, in a stable order."""
    edges: dict[tuple[str, str], list[str]] = {}
    for item in verbs:
        for target in item.targets:
            for source in sorted(item.sources - {target}):
                edges.setdefault((source, target), []).append(item.name)
    lines = [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in sorted(edges.items())]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {start}", *lines]) + "\n"
