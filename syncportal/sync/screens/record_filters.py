"""The filters of the record list: remote, resource, status, owner, age, error group, deleted.

Owns: their parameters (also used by links elsewhere) and what each selects. Guarantees: a value nobody offers selects
nothing special; every filter stands in the address.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest

from syncportal.kernel.clock import db_now
from syncportal.remote.models import Remote, Resource
from syncportal.sync.models import Record, SyncJob
from syncportal.sync.querysets import sees_everything
from syncportal.sync.states import CLAIMABLE, IN_FLIGHT, STOPPED, Status

MOST_OWNERS = 50
AGES = {"1h": ("over 1 hour", timedelta(hours=1)), "1d": ("over 1 day", timedelta(days=1)),
        "7d": ("over 7 days", timedelta(days=7))}  # fmt: skip
DUE = "due"

Choices = Iterable[tuple[str, str]]


class ResourceFilter(admin.SimpleListFilter):
    """Records of one resource."""

    title = "resource"
    parameter_name = "resource"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every resource by name."""
        return [(slug, name or slug) for slug, name in Resource.objects.values_list("slug", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the records of the chosen resource."""
        return queryset.filter(resource__slug=self.value()) if self.value() else queryset


class RemoteFilter(admin.SimpleListFilter):
    """Rows of one remote's resources."""

    title = "remote"
    parameter_name = "remote"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every remote by name; with a single one there is nothing to choose."""
        found = [(slug, name or slug) for slug, name in Remote.objects.values_list("slug", "name")]
        return found if len(found) > 1 or self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the rows of the chosen remote."""
        if not self.value():
            return queryset
        return queryset.filter(resource__in=list(Resource.objects.filter(remote__slug=self.value())))


class StatusFilter(admin.SimpleListFilter):
    """Records in one status, or in a group of them."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer three groups first, then each status."""
        groups = [("stopped", "Needs a person"), ("moving", "Under way"), ("waiting", "Waiting for a worker")]
        return [*groups, *Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the records in the chosen status."""
        match self.value():
            case "stopped":
                return queryset.filter(job__status__in=sorted(STOPPED))
            case "moving":
                return queryset.filter(job__status__in=sorted(IN_FLIGHT))
            case "waiting":
                return queryset.filter(job__status__in=sorted(CLAIMABLE))
            case Status.SYNCED:
                # Nearly all rows: said by what it is not, so that databases walk the list's order and not the status.
                return queryset.exclude(job__status__in=[one for one in Status.values if one != Status.SYNCED])
            case value if value in Status.values:
                return queryset.filter(job__status=value)
        return queryset


class OwnerFilter(admin.SimpleListFilter):
    """Records of one owner; only for people who see more than their own."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer oneself, nobody, and the owners there are."""
        if not sees_everything(request.user):
            return []
        owning = Record.objects.filter(owner__isnull=False).values("owner_id")
        people = get_user_model().objects.filter(pk__in=owning).exclude(pk=request.user.pk or 0).order_by("username")
        names = people.values_list("pk", "username")[:MOST_OWNERS]
        return [("me", "Me"), ("none", "Nobody"), *((str(pk), name) for pk, name in names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the records of the chosen owner."""
        value = self.value() or ""
        if value == "me":
            return queryset.filter(owner_id=request.user.pk)
        if value == "none":
            return queryset.filter(owner_id__isnull=True)
        return queryset.filter(owner_id=int(value)) if value.isdecimal() and len(value) < 18 else queryset


class AgeFilter(admin.SimpleListFilter):
    """Records that are due, or have stood in their status for long."""

    title = "time in status"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer what is due now, and three ages."""
        return [(DUE, "due now"), *((key, label) for key, (label, _) in AGES.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the records of the chosen age, measured by the database's time."""
        value = self.value()
        if value == DUE:
            return queryset.filter(job__status__in=sorted(CLAIMABLE), job__held_by="", job__due_at__lte=db_now())
        if value in AGES:
            return queryset.filter(job__status_since__lte=db_now() - AGES[value][1])
        return queryset


class ErrorGroupFilter(admin.SimpleListFilter):
    """Records that fail for one cause; offered only while one is chosen, because there are many."""

    title = "error group"
    parameter_name = "error_group"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the chosen group by its message, where the person may see it."""
        if not self.value():
            return []
        jobs = SyncJob.objects.visible_to(request.user).filter(error_group=number_in(self.value()))
        job = jobs.select_related("error_group").defer("sends").first()
        return [(str(self.value()), str(job.error_group)[:60] if job is not None else "Error group")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the records of the chosen one."""
        return queryset.filter(job__error_group=number_in(self.value())) if self.value() else queryset


def number_in(text: str | None) -> int:
    """Return the id that a parameter holds, 0 when it holds none."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63 else 0


class DeletedFilter(admin.SimpleListFilter):
    """Deleted records are hidden unless asked for."""

    title = "deleted"
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the deleted ones, or all."""
        return [("only", "Deleted only"), ("with", "With deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the present records by default."""
        if self.value() == "only":
            return queryset.filter(deleted_at__isnull=False)
        return queryset if self.value() == "with" else queryset.filter(deleted_at__isnull=True)

    def choices(self, changelist: Any) -> Any:
        """Call the default what it is."""
        for number, choice in enumerate(super().choices(changelist)):
            yield choice | {"display": "Present"} if number == 0 else choice
