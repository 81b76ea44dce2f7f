"""Two sides that agree, ways to make them differ, and runs from start to end."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User

from reconciliation import engine, runs
from reconciliation.models import Discrepancy, Run
from syncportal.demo import DemoMaster
from syncportal.remote.models import Resource
from syncportal.sync.events import WORKER, Actor
from syncportal.sync.models import Record
from tests.factories import ACCOUNTS, collection_of, make_resource, take

# Tests change things and compare them within the same second.
AT_ONCE = {"lag_s": 0}


def agreed(
    master: DemoMaster, kind: Mapping[str, Any] = ACCOUNTS, *, policy: Mapping[str, Any] | None = None, **changes: Any
) -> tuple[Resource, dict[str, Record]]:
    """Make a resource and records for everything that the master lists; return the records by external id."""
    resource = make_resource(master, kind, policy={**AT_ONCE, **(policy or {})}, **changes)
    ids = master.store.listed(collection_of(resource))
    return resource, {str(record.external_id): record for record in take(master, resource, *ids)}


def person(name: str = "pat") -> Actor:
    """Make a user who acts."""
    return Actor("user", User.objects.get_or_create(username=name)[0].pk, name)


def to_the_end(run: Run, *, seconds: float = 30) -> Run:
    """Work on a run until it ends."""
    for _ in range(200):
        sliced = engine.run_slice(run.pk, seconds=seconds)
        if not sliced.goes_on:
            return sliced.run
    raise AssertionError("the run does not end")


def reconcile(resource: Resource, **options: Any) -> Run:
    """Start a run and work on it until it ends."""
    return to_the_end(runs.start(resource, actor=options.pop("actor", WORKER), **options))


def found(resource: Resource) -> dict[str, tuple[str, str]]:
    """Return kind and state of every discrepancy, by external id."""
    rows = Discrepancy.objects.filter(resource=resource).values_list("external_id", "kind", "state")
    return {external_id: (kind, state) for external_id, kind, state in rows}


def adds_up(run: Run) -> bool:
    """Tell whether everything that was checked came to something."""
    kinds = run.version_drift + run.data_mismatch + run.missing_remote + run.missing_local
    return run.checked == run.matched + run.busy + kinds + run.duplicate_key + run.invalid_remote
