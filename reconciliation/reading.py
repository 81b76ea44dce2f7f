"""Single reads of objects from bounded threads: HTTP only, no database.

Owns: `Reading` and how many are made at once. Guarantees: a missing object is looked at twice before it counts as gone;
nothing starts after the slice's time; one object's failure is that object's, and nothing waits for it for
ever. Does not: judge what was read.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings

from reconciliation.pace import Pace
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Forbidden, Missing, RemoteError, ServerFault, Throttled, Unauthorized
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import RemoteObject
from syncportal.sync.slots import NoSlot
from syncportal.sync.validation import answer_problems, check_answer

PURPOSE = "reconcile"
FEW = 20
FORBIDDEN = (
    "The remote does not let our credential read this object, though it answers other calls. It may be hidden from us "
    "or deleted there; ask whoever runs the remote."
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the remote said about one id: an object, that it is gone (shown None), or why it cannot be told.

    duplicate: the list shows it twice with different content. detail: what looking at the list again showed.
    """

    external_id: str
    shown: RemoteObject | None = None
    error: RemoteError | None = None
    invalid: str = ""
    duplicate: bool = False
    detail: str = ""

    @property
    def later(self) -> bool:
        """Tell whether asking again later may say more."""
        error = self.error
        return error is not None and (error.transient or isinstance(error, Throttled | Unauthorized))

    @property
    def forbidden(self) -> bool:
        """Tell whether this object alone is kept from us: the remote answers our credential otherwise."""
        return isinstance(self.error, Forbidden)

    @property
    def unreadable(self) -> str:
        """Say why the object cannot be compared, "" when it can."""
        if self.error is None:
            return self.invalid
        return f"{FORBIDDEN} {self.error.detail}" if self.forbidden else self.error.detail


def read(client: ResourceClient, external_id: str, *, version: str | None) -> Reading:
    """Read one object; a missing one and one older than `version` are read twice."""
    deadline = Deadline(settings.CALL_TOTAL_S)
    missing = False
    for again in (False, True):
        try:
            found = client.read(external_id, purpose=PURPOSE, deadline=deadline)
        except Missing:
            if missing:
                return Reading(external_id)
            missing = True
            continue
        except Forbidden as error:
            return Reading(external_id, error=_refused_credential(client, deadline=deadline) or error)
        except RemoteError as error:
            return Reading(external_id, error=error)
        if found.object.external_id != external_id:
            return Reading(external_id, invalid=f"The answer is about {found.object.external_id!r}.")
        report = check_answer(
            found.answer, found.object, spec=client.spec, expected_id=external_id, known_version=version
        )
        failed = report.failed
        if failed is None or (failed.code == "older" and again):
            return Reading(external_id, found.object)
        if failed.code not in {"older", "checksum"} or again:
            return Reading(external_id, found.object, invalid=failed.detail)
    return Reading(external_id, error=_unsteady())


def _refused_credential(client: ResourceClient, *, deadline: Deadline) -> RemoteError | None:
    """Return what pauses the remote when even the known-good call is refused, None when one object alone is."""
    try:
        client.check(deadline=deadline, purpose=PURPOSE)
    except (Forbidden, Unauthorized) as refused:
        return Unauthorized(refused.detail, code=refused.code, status=refused.status, exchange=refused.exchange)
    except RemoteError:
        return None
    return None


def _unsteady() -> RemoteError:
    """The object is there in one answer and missing in the next."""
    return ServerFault("The remote shows the object only now and then.", code="unsteady")


def what_stops(readings: Collection[Reading], *, last_try: bool) -> RemoteError | None:
    """Return the error for which all of these must be read again later; None when they can be judged.

    Where the last try fails a few objects, each of them is unreadable; where it fails more, it is the remote.
    """
    errors = [reading.error for reading in readings if reading.later and reading.error is not None]
    if not errors or len(errors) < len(readings):
        return None
    asks_to_wait = next((error for error in errors if not error.transient), None)
    if asks_to_wait is not None:
        return asks_to_wait
    return None if last_try and len(errors) <= FEW else errors[0]


def problems_of(shown: RemoteObject, *, client: ResourceClient) -> str:
    """Say what the schema has against an object, "" for nothing."""
    found = answer_problems(shown.data, spec=client.spec)
    return "; ".join(f"{problem.pointer or 'The object'}: {problem.detail}" for problem in found[:5])


def in_threads(work: Callable[[T], Reading], items: Iterable[T], *, pace: Pace, until: float) -> Iterator[Reading]:
    """Yield what `work` returns for items, at most `pace.slots` at once; starts nothing after `until` (monotonic).

    Where the remote may not be called any more, what was read is yielded and the rest left; raises NoSlot when that is
    everything.
    """
    waiting = iter(items)
    running: set[Future[Reading]] = set()
    started = ended = False
    with ThreadPoolExecutor(max(1, pace.slots)) as pool:
        while True:
            while not ended and len(running) < max(1, pace.slots) and time.monotonic() < until:
                item = next(waiting, None)
                if item is None:
                    ended = True
                    break
                try:
                    pace.calls(1)
                except NoSlot:
                    if not started:
                        raise
                    ended = True
                    break
                started = True
                running.add(pool.submit(work, item))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
