"""Comparing the records that a person chose in their list, one run for each resource, or the one on its own page."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from reconciliation import runs
from reconciliation.journal import AlreadyRunning
from reconciliation.runs import MOST_SELECTED, NotPossible
from syncportal.remote.models import Resource
from syncportal.sync import rights
from syncportal.sync.models import Record
from syncportal.sync.screens.page import actor_of, list_query, to_list, with_back
from syncportal.sync.screens.record_parts import OfferedAct


@admin.action(description="Compare both sides now")
def compare(page: Any, request: HttpRequest, queryset: QuerySet[Record]) -> HttpResponse:
    """Start the runs and go to the only one, or to the list of all."""
    if not rights.operates(request.user):
        raise PermissionDenied
    chosen: dict[int, list[int]] = {}
    rows = list(queryset.order_by("pk").values_list("pk", "resource_id")[: MOST_SELECTED + 1])
    if len(rows) > MOST_SELECTED:
        messages.error(request, f"At most {MOST_SELECTED:,} records can be chosen; nothing was started.")
        return to_list("admin:sync_record_changelist", request.GET.urlencode())
    for record_id, resource_id in rows:
        chosen.setdefault(resource_id, []).append(record_id)
    begun = []
    for resource in Resource.objects.select_related("remote").filter(pk__in=chosen).order_by("pk"):
        try:
            begun.append(runs.start(resource, actor=actor_of(request.user), record_ids=chosen[resource.pk]).pk)
        except (AlreadyRunning, NotPossible) as refused:
            messages.warning(request, f"{resource}: {refused}")
    if len(begun) == 1:
        return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=begun))
    if begun:
        messages.success(request, f"{len(begun)} runs began, one for each resource.")
        return HttpResponseRedirect(reverse("admin:reconciliation_run_changelist"))
    return to_list("admin:sync_record_changelist", request.GET.urlencode())


def compare_one(request: HttpRequest, record: Record, *, here: str = "") -> HttpResponse:
    """Start a run of one record and go to it, or to the run that is at its resource; `here`: where to go otherwise."""
    here = here or with_back(reverse("admin:sync_record_change", args=[record.pk]), list_query(request))
    try:
        run_id: int | None = runs.start(record.resource, actor=actor_of(request.user), record_ids=[record.pk]).pk
    except AlreadyRunning as running:
        messages.info(request, "The resource is being compared right now; this is that run.")
        run_id = running.run_id
    except NotPossible as refused:
        messages.warning(request, str(refused))
        return HttpResponseRedirect(here)
    return HttpResponseRedirect(reverse("admin:reconciliation_run_change", args=[run_id]) if run_id else here)


def _why_not(record: Record) -> str:
    if record.deleted_at is not None:
        return "It is deleted on both sides."
    return "" if record.external_id else "The remote does not know it yet."


COMPARE_ONE = OfferedAct("compare", "Compare now", "split", _why_not, compare_one)
