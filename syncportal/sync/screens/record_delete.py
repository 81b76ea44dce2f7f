"""Deleting a record on both sides: a preview of what will happen, then the act.

Owns: the sentence of the preview. Guarantees: nothing is deleted that changed since the preview was shown.
"""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from syncportal.kernel import pointer
from syncportal.remote.spec import spec_for
from syncportal.sync import local, rights
from syncportal.sync.local import Edit, RecordGone, StaleRevision
from syncportal.sync.models import Conflict, Record
from syncportal.sync.screens.page import actor_of, list_query, render, to_list, with_back
from syncportal.sync.screens.record_parts import label_of, visible_record
from syncportal.sync.screens.values import shown
from syncportal.sync.states import Status


def delete(request: HttpRequest, record_id: int) -> HttpResponse:
    """Show what deleting will do, or delete."""
    record = visible_record(request, record_id)
    if not rights.may_delete(request.user, record):
        raise PermissionDenied
    address = with_back(reverse("admin:sync_record_change", args=[record.pk]), list_query(request))
    if record.deleted_at is not None:
        messages.info(request, "The record is deleted already.")
        return HttpResponseRedirect(address)
    if request.method != "POST":
        return _page(request, record)
    posted = request.POST.get("revision", "")
    revision = int(posted) if posted.isdecimal() and len(posted) < 18 else -1
    try:
        local.save(Edit(record.pk, revision=revision, delete=True), actor=actor_of(request.user))
    except StaleRevision:
        return _page(request, visible_record(request, record_id), stale=True, status=409)
    except RecordGone:
        messages.info(request, "The record was deleted meanwhile.")
        return to_list("admin:sync_record_changelist", list_query(request))
    messages.success(request, "Deleted here. The remote is told now.")
    return HttpResponseRedirect(address)


def _page(request: HttpRequest, record: Record, *, stale: bool = False, status: int = 200) -> HttpResponse:
    spec = spec_for(record.resource)
    context = {
        "record": record,
        "consequences": _consequences(record),
        "stale": stale,
        "values": [(label_of(spec, pointer.build([name])), shown(value)) for name, value in record.data.items()],
        "back": list_query(request),
    }
    return render(request, "sync/record_delete.html", title=f"Delete {record}", context=context, status=status)


def _consequences(record: Record) -> list[str]:
    """Say in order what deleting will do."""
    job = record.job
    conflict = Conflict.objects.open().filter(record_id=record.pk).first()
    if record.base is None and not job.in_doubt and job.status != Status.PROCESSING:
        return ["The remote never got it, so it just disappears here. No call is made."]
    said = ["The record is hidden here once the remote has confirmed."]
    if conflict is not None and conflict.remote is None:
        return ["It is gone at the remote already: deleting accepts that, and closes the open conflict."]
    if conflict is not None:
        return [*said, "The open conflict stays: somebody must confirm the deletion against the remote's changes."]
    said.append("The object is deleted at the remote, unless it changed there meanwhile: then you are asked.")
    if job.status == Status.PROCESSING:
        said.append("It is being sent right now; the deletion follows.")
    if job.in_doubt:
        said.append("An earlier send is not settled; that is settled first.")
    return said
