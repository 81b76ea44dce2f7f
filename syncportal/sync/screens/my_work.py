"""My work: the start page of a record owner, and one look for everybody else.

Guarantees: shows what waits for the person who looks, with the way to settle it one click away. Writes nothing.
"""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from syncportal.kernel.clock import db_now
from syncportal.sync import my_work, rights
from syncportal.sync.screens.page import fragment, render

LOOK_AGAIN_S = 30


def view(request: HttpRequest) -> HttpResponse:
    """Show what waits for the person; to a script only the part that moves."""
    if not rights.may_look(request.user):
        raise PermissionDenied
    context = {
        "work": my_work.work_of(request.user, now=db_now()),
        "records_url": f"{reverse('admin:sync_record_changelist')}?owner=me",
        "poll_s": LOOK_AGAIN_S,
        "starts_here": my_work.starts_here(request.user),
        "operates": rights.operates(request.user),
    }
    if request.headers.get("HX-Request"):
        return fragment(request, "sync/_my_work.html", context)
    return render(request, "sync/my_work.html", title="My work", context=context)
