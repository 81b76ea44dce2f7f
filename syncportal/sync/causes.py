"""What makes two failures the same: remote, class, code, and the message without what differs each time. Pure.

Guarantees: `normalised` gives the same words whatever numbers, ids, times and quoted values stand in a message; taking
it twice changes nothing; a cause has the same id in every process, so nobody has to ask for it before writing.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LONGEST: Final = 200
"""How much of a normalised message tells causes apart."""
_READ: Final = 1_000
VALUE: Final = "…"
"""Stands for a quoted value."""
NUMBER: Final = "#"
"""Stands for a number, an id, an address or a time."""

_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|`[^`]*`|(?<!\w)'[^']*'(?!\w)")
# A word that holds a digit is an id, a number, a time or an address; which HTTP status it was, people want to read.
_NUMBERED = re.compile(r"(\bHTTP \d{3}\b)|[^\s()\[\]{}<>,;=/?&|\"'“”«»`]*\d[^\s()\[\]{}<>,;=/?&|\"'“”«»`]*")
_REPEATED = re.compile(r"#(?:[\s:,;/.+-]*#)+")
_VALUES = re.compile(r"…(?:[\s:,;/]*…)+")


@lru_cache(maxsize=4_096)
def normalised(message: str) -> str:
    """Return a message without the values that differ from one failure to the next."""
    text = message[:_READ]
    while (shorter := _step(text)) != text:
        text = shorter
    return text


def _step(text: str) -> str:
    text = _QUOTED.sub(VALUE, " ".join(text.split()))
    text = _NUMBERED.sub(lambda hit: hit.group(1) or NUMBER, text)
    text = _VALUES.sub(VALUE, _REPEATED.sub(NUMBER, text))
    return text[:LONGEST].rstrip()


DEADLY: Final = "Its workers died again and again while sending it; it may be what kills them."
"""The detail of a dead letter that no answer explains."""


MANY: Final = "Many different messages"
"""Stands for the message where a remote sends more different ones than anybody could read."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause of failures at one remote. message: normalised."""

    remote_id: int
    kind: str
    code: str
    message: str

    @property
    def id(self) -> int:
        """Return the id of its group: positive, 62 bits of a digest, the same everywhere."""
        told = "\0".join((str(self.remote_id), self.kind, self.code, self.message))
        return (int.from_bytes(hashlib.sha256(told.encode("utf-8", "replace")).digest()[:8]) >> 2) or 1

    @property
    def without_message(self) -> "Cause":
        """Return the cause that stands for all of its class and code whose messages are too many to tell apart."""
        return Cause(self.remote_id, self.kind, self.code, MANY)


def cause_of(*, remote_id: int, kind: str, code: str, message: str) -> Cause:
    """Return the cause of one failure."""
    return Cause(remote_id, kind[:20], code[:40], normalised(message))


def deadly(remote_id: int) -> Cause:
    """Return the cause of a job given up because its workers died, whatever the remote said before."""
    return cause_of(remote_id=remote_id, kind="", code="worker_died", message=DEADLY)
