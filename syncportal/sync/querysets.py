"""Questions that are asked about a record's tables in more than one place."""

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.models import User as DjangoUser
from django.db import models
from django.db.models import Q

from syncportal.sync.states import CLAIMABLE

if TYPE_CHECKING:
    Person = DjangoUser | AnonymousUser
else:
    Person = object


def sees_everything(user: Person) -> bool:
    """Tell whether the user may see the records of every owner."""
    return user.has_perm("sync.operate_records") or user.has_perm("sync.see_all_records")


class RecordQuerySet(models.QuerySet):
    """Records by who may see them and whether they still exist."""

    def visible_to(self, user: Person) -> Self:
        """Return the records in the user's scope: all for operations and viewers, else one's own."""
        if sees_everything(user):
            return self
        return self.filter(owner_id=user.pk) if user.is_authenticated else self.none()

    def present(self) -> Self:
        """Return the records not deleted on both sides."""
        return self.filter(deleted_at__isnull=True)


class _ByRecordOwner(models.QuerySet):
    """Rows whose visibility is that of their record."""

    def visible_to(self, user: Person) -> Self:
        """Return the rows whose record is in the user's scope."""
        if sees_everything(user):
            return self
        return self.filter(record__owner_id=user.pk) if user.is_authenticated else self.none()


class SyncJobQuerySet(_ByRecordOwner):
    """Jobs by what the worker may do with them."""

    def claimable(self) -> Self:
        """Return jobs that wait for a worker and are not held."""
        return self.filter(status__in=sorted(CLAIMABLE), held_by="")

    def due(self, now: datetime) -> Self:
        """Return claimable jobs whose time has come."""
        return self.claimable().filter(due_at__lte=now)


class SyncLogQuerySet(_ByRecordOwner):
    """Exchanges in a user's scope."""


class ConflictQuerySet(_ByRecordOwner):
    """Conflicts in a user's scope."""

    def open(self) -> Self:
        """Return those that still need a decision."""
        return self.filter(state="open")


class EventQuerySet(_ByRecordOwner):
    """Events in a user's scope: those of one's records, and one's own acts."""

    def visible_to(self, user: Person) -> Self:
        """Return the events of visible records and the user's own acts."""
        if sees_everything(user):
            return self
        if not user.is_authenticated:
            return self.none()
        return self.in_scope_of(user.pk)

    def listed_for(self, user: Person) -> Self:
        """Return the rows of `visible_to`, found from the person's side: for lists that look back over everything."""
        if sees_everything(user) or not user.is_authenticated:
            return self.visible_to(user)
        rows = self.model._default_manager.order_by()
        own, acts = rows.filter(record__owner_id=user.pk), rows.filter(actor_id=user.pk)
        return self.filter(pk__in=own.values("pk").union(acts.values("pk")))

    def in_scope_of(self, user_id: int) -> Self:
        """Return the events of a user's own records, and the user's own acts."""
        return self.filter(Q(record__owner_id=user_id) | Q(actor_id=user_id))
