"""What happens in the demo: edits flow, some fail and recover, two conflicts and a dead letter wait, groups are undone.

Owns: the demo's edits and faults. Guarantees: it only does what people could do, through the same functions.
Does not: start or stop anything.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from django.db import Error as DatabaseTrouble
from django.db import connection

from rollback.models import Group
from rollback.states import GroupStatus
from syncportal.demo import DemoControl
from syncportal.demo.client import ControlError
from syncportal.sync import local
from syncportal.sync.events import Actor, Kind
from syncportal.sync.local import Edit, EditRefused
from syncportal.sync.models import Conflict, Event, Record, SyncJob
from syncportal.sync.states import Status

log = structlog.get_logger(__name__)

PAUSE_S = 1.2
TOLD_WITHIN_S = 120.0
FAULT_RATE = 0.2
CONFLICTING = ("ACC-0011", "ACC-0012")
RECOVERING = ("ACC-0013", "ACC-0014")
LOST = "SH-0007"
CITIES = ("Malmö", "Aarhus", "Gdańsk", "Porto", "Leeds", "Zürich", "Tartu")
TELL_EVERY_S = 5.0


class NotTold(Exception):
    """The story did not come about in time; the message says what is missing."""


def wait_until(happened: Callable[[], bool], *, seconds: float, stopped: threading.Event) -> bool:
    """Ask every fifth of a second until it is true; False when the time is up or the demo was stopped."""
    until = time.monotonic() + seconds
    while not stopped.is_set() and time.monotonic() < until:
        if happened():
            return True
        stopped.wait(0.2)
    return False


@dataclass(slots=True)
class Story:
    """The demo's life; `editor` is who makes the edits."""

    control: DemoControl
    editor: Actor
    stopped: threading.Event
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    edits: int = 0

    def begin(self) -> None:
        """Switch the faults on and make the edits whose outcome waits for a person."""
        writes, refused = {"collection": "accounts", "phase": "write"}, {"status": 503}
        for external_id in RECOVERING:
            self.control.add_fault(kind="status", settings=refused, object_id=external_id, times=1, **writes)
            self._edit("accounts", external_id, city="Bergen")
        self.control.add_fault(kind="status", settings=refused, rate=FAULT_RATE, **writes)
        lost = {"collection": "shifts", "object_id": LOST, "phase": "write"}
        self.control.add_fault(kind="status", settings={"status": 500}, **lost)
        for external_id in CONFLICTING:
            self.control.edit("accounts", external_id, {"city": "Bergen"})
            self._edit("accounts", external_id, city="Kraków")
        self._edit("shifts", LOST, seats=9)

    def go_on(self, *, alive: Callable[[], bool]) -> None:
        """Make an edit every second or so until stopped."""
        while not self.stopped.wait(PAUSE_S):
            self.step()
            if not alive():
                log.error("demo.child_ended")
                return

    def step(self) -> None:
        """Make one edit; now and then somebody else edits another field of the same object at the master."""
        number = self.chance.randrange(20, 200)
        external_id = f"ACC-{number:04d}"
        self.edits += 1
        try:
            if self.edits % 7 == 0:
                self.control.edit("accounts", external_id, {"credit": self.chance.randrange(100, 2000)})
            if self.edits % 5 == 0:
                self._edit("shifts", f"SH-{number:04d}", seats=self.chance.randrange(1, 8))
            else:
                self._edit(
                    "accounts", external_id, city=self.chance.choice(CITIES), notes=f"Called {self.edits} times."
                )
        except (DatabaseTrouble, ControlError):
            log.exception("demo.edit_failed")
            connection.close()

    def wait_until_told(self, say: Callable[[str], None], *, alive: Callable[[], bool]) -> None:
        """Go on until everything the demo promises can be seen; raises NotTold."""
        until = time.monotonic() + TOLD_WITHIN_S
        told = 0.0
        while missing := self._missing():
            if self.stopped.wait(PAUSE_S):
                return
            if time.monotonic() > until or not alive():
                raise NotTold(f"The demo has not shown: {', '.join(missing)}.")
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                say(f"Still to be seen: {', '.join(missing)}")
            self.step()

    def _missing(self) -> list[str]:
        """Name what the demo has not shown yet."""
        failed = Event.objects.filter(kind=Kind.SYNC_FAILED).values("record_id")
        recovered = SyncJob.objects.filter(status=Status.SYNCED, record_id__in=failed)
        pushed = Event.objects.filter(kind=Kind.SYNC_SUCCEEDED)
        groups = set(Group.objects.values_list("status", flat=True))
        seen = {
            "five pushed edits": pushed[:5].count() == 5,
            "a failed attempt": Event.objects.filter(kind=Kind.SYNC_FAILED).exists(),
            "a recovery": recovered.exists(),
            "two conflicts": Conflict.objects.open().count() >= len(CONFLICTING),
            "an applied group": GroupStatus.APPLIED in groups,
            "a group undone within its request": GroupStatus.ROLLED_BACK in groups,
            "a group healed by the worker": GroupStatus.COMPENSATED in groups,
            "a dead letter": SyncJob.objects.filter(status=Status.DEAD_LETTER).exists(),
        }
        return [what for what, there in seen.items() if not there]

    def _edit(self, resource: str, external_id: str, **changes: object) -> None:
        record = Record.objects.filter(resource__slug=resource, external_id=external_id).first()
        if record is None:
            return
        try:
            local.save(Edit(record.pk, changes), actor=self.editor)
        except EditRefused as refused:
            log.warning("demo.edit_refused", record_id=record.pk, detail=refused.detail)
