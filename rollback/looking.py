"""Looking at objects now, for a person: what the remote holds, beside what a step found and wrote.

HTTP only, bounded and outside of any transaction; writes nothing. A look carries a seal of what was
seen, so that a later decision can prove which content it was made on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.conf import settings

from rollback.undo import Client
from syncportal.kernel import strict_json
from syncportal.kernel.tx import assert_outside_transaction
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Misconfiguration, Missing, RemoteError
from syncportal.remote.gateway import client_for
from syncportal.remote.models import Resource
from syncportal.remote.payloads import RemoteObject
from syncportal.sync.slots import NoSlot, slots
from syncportal.sync.validation import check_answer

THREADS = 8
ClientFor = Callable[[Resource], Client]


@dataclass(frozen=True, slots=True)
class Look:
    """What one object is now. shown None: it could not be read, and `problem` says why; gone: it no longer exists."""

    shown: RemoteObject | None = None
    problem: str = ""
    gone: bool = False

    @property
    def seal(self) -> str:
        """Return what stands for exactly this content in exactly this version; "" when nothing was seen."""
        if self.shown is None:
            return ""
        text = strict_json.dumps_canonical({"version": self.shown.version, "data": self.shown.data})
        return hashlib.sha256(text.encode()).hexdigest()


def look_at(resource: Resource, external_id: str, *, client_of: ClientFor = client_for) -> Look:
    """Read one object now."""
    return look_at_many({0: (resource, external_id)}, client_of=client_of)[0]


def look_at_many(targets: Mapping[int, tuple[Resource, str]], *, client_of: ClientFor = client_for) -> dict[int, Look]:
    """Read objects now, concurrently, and return a look for each key. All resources may differ."""
    assert_outside_transaction()
    looks: dict[int, Look] = {}
    resources = {resource.pk: resource for resource, _ in targets.values()}
    for resource_id, resource in resources.items():
        keys = [key for key, (wanted, _) in targets.items() if wanted.pk == resource_id]
        try:
            client = client_of(resource)
            with slots(client.spec.remote, client, want=min(THREADS, len(keys))) as granted:
                found = _read(client, [targets[key][1] for key in keys], threads=granted)
        except NoSlot as refused:
            found = [Look(problem=str(refused))] * len(keys)
        except (Misconfiguration, RemoteError) as error:
            found = [Look(problem=error.detail)] * len(keys)
        looks |= dict(zip(keys, found, strict=True))
    return looks


def _read(client: Client, external_ids: Sequence[str], *, threads: int) -> list[Look]:
    deadline = Deadline(settings.CALL_TOTAL_S)

    def one(external_id: str) -> Look:
        try:
            found = client.read(external_id, purpose="look", deadline=deadline)
        except Missing as error:
            return Look(problem=f"The remote no longer has this object. {error.detail}", gone=True)
        except RemoteError as error:
            return Look(problem=error.detail)
        report = check_answer(found.answer, found.object, spec=client.spec, expected_id=external_id, known_version=None)
        return Look(found.object) if report.failed is None else Look(problem=report.failed.detail)

    with ThreadPoolExecutor(threads, thread_name_prefix="look") as pool:
        return list(pool.map(one, external_ids))
