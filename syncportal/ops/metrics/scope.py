"""Whose and which numbers are shown: the viewer's records, of one remote, of one resource, or all.

Owns: `Scope`, the one place that limits every table to it. Guarantees: a remote or resource that the viewer may not
know of is refused like one that does not exist.
"""

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from django.db.models import QuerySet

from rollback import visibility
from rollback.models import CompensatingTask
from syncportal.remote.models import Remote, Resource
from syncportal.sync.models import Conflict, Rollup, SyncJob, SyncLog
from syncportal.sync.querysets import ConflictQuerySet, Person, SyncJobQuerySet, SyncLogQuerySet, sees_everything

Row = TypeVar("Row", Remote, Resource)
Rows = TypeVar("Rows", bound=QuerySet)


class UnknownScope(Exception):
    """There is no remote or resource of that name. `parameter` names the filter, `value` what it held."""

    def __init__(self, parameter: str, value: str) -> None:
        super().__init__(f"There is no {parameter} {value[:100]!r}.")
        self.parameter, self.value = parameter, value


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are counted. resources: the ids of a filter, None for all; everything: not only one's own records."""

    user: Person
    everything: bool
    remote: Remote | None = None
    resource: Resource | None = None
    resources: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """Say in a few words what the numbers are about."""
        whose = "" if self.everything else "your records of "
        if self.resource is not None:
            return f"{whose}{self.resource}"
        if self.remote is not None:
            return f"{whose}{self.remote}"
        return "all remotes" if self.everything else "your records"

    def query(self, **more: str) -> str:
        """Return the query string that keeps this filter, with further parameters."""
        kept = {
            "remote": self.remote.slug if self.remote else "",
            "resource": self.resource.slug if self.resource else "",
        }
        return urlencode({name: value for name, value in {**more, **kept}.items() if value})

    def jobs(self) -> SyncJobQuerySet:
        """Return the jobs of the records that are counted, deleted ones left out."""
        rows = SyncJob.objects.filter(record__deleted_at__isnull=True)
        if self.resources is not None:
            rows = rows.filter(record__resource_id__in=self.resources)
        return rows.visible_to(self.user)

    def logs(self) -> SyncLogQuerySet:
        """Return the exchanges."""
        return self._of(SyncLog.objects.visible_to(self.user))

    def conflicts(self) -> ConflictQuerySet:
        """Return the conflicts."""
        return self._of(Conflict.objects.visible_to(self.user))

    def tasks(self) -> QuerySet[CompensatingTask]:
        """Return the compensating tasks."""
        return self._of(visibility.tasks_of(self.user))

    def rollups(self) -> QuerySet[Rollup]:
        """Return the roll-ups; they know no owner, so only whoever sees everything may be shown them."""
        if not self.everything:
            raise ValueError("roll-ups count the records of every owner")
        return self._of(Rollup.objects.all())

    def _of(self, rows: Rows) -> Rows:
        return rows if self.resources is None else rows.filter(resource_id__in=self.resources)


def scope_of(user: Person, *, remote: str = "", resource: str = "") -> Scope:
    """Return what the user sees of a remote or a resource, by slug; raises UnknownScope."""
    everything = sees_everything(user)
    chosen = _found(Resource.objects.select_related("remote"), "resource", resource) if resource else None
    if chosen is not None:
        if remote and chosen.remote.slug != remote:
            raise UnknownScope("resource", resource)
        return Scope(user, everything, chosen.remote if remote else None, chosen, (chosen.pk,))
    if not remote:
        return Scope(user, everything)
    master = _found(Remote.objects.defer("secret", "config"), "remote", remote)
    return Scope(user, everything, master, None, tuple(master.resources.order_by("pk").values_list("pk", flat=True)))


def _found(rows: QuerySet[Row], parameter: str, slug: str) -> Row:
    row = rows.filter(slug=slug).first()
    if row is None:
        raise UnknownScope(parameter, slug)
    return row
