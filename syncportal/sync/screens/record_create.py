"""Making a new record: choose the resource, fill in its form.

Owns: the two steps. Guarantees: the same form sent twice makes one record; a refused form keeps its input.
"""

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from syncportal.remote.models import Resource
from syncportal.remote.spec import spec_for
from syncportal.sync import local, rights
from syncportal.sync.forms import RecordForm, fields_of, new_object
from syncportal.sync.local import InvalidEdit
from syncportal.sync.screens.page import actor_of, list_query, render
from syncportal.sync.screens.record_page import zone_of

SENT = "records_created"
KEPT = 20


def add(request: HttpRequest) -> HttpResponse:
    """Show the choice of resource, or the form of the chosen one, or save it."""
    if not rights.may_create(request.user):
        raise PermissionDenied
    resources = list(Resource.objects.select_related("remote"))
    slug = request.GET.get("resource", "")
    chosen = next((one for one in resources if one.slug == slug), None)
    if slug and chosen is None:
        raise Http404("There is no such resource.")
    if chosen is None and len(resources) == 1 and request.method != "POST":
        chosen = resources[0]
    if chosen is None:
        context = {"resources": resources, "back": list_query(request)}
        return render(request, "sync/record_add_choose.html", title="New record", context=context)
    if request.method == "POST":
        with timezone.override(zone_of(request)):
            return _create(request, chosen)
    form = RecordForm(shown=fields_of(spec_for(chosen), {}, creating=True), before={})
    return _page(request, chosen, form)


def _create(request: HttpRequest, resource: Resource) -> HttpResponse:
    once = request.POST.get("once", "")[:36]
    sent = dict(request.session.get(SENT, {}))
    if once in sent:
        messages.info(request, "This form was sent before; here is the record it made.")
        return HttpResponseRedirect(reverse("admin:sync_record_change", args=[sent[once]]))
    form = RecordForm(request.POST, shown=fields_of(spec_for(resource), {}, creating=True), before={})
    if not form.is_valid():
        return _page(request, resource, form, status=422)
    try:
        saved = local.create(
            resource, new_object(form.wishes()), actor=actor_of(request.user), owner_id=_owner_id(request)
        )
    except InvalidEdit as refusal:
        form.add_problems(refusal.problems)
        return _page(request, resource, form, status=422)
    request.session[SENT] = dict([*sent.items(), (once, saved.record_id)][-KEPT:])
    messages.success(request, "Saved. Syncing…")
    return HttpResponseRedirect(reverse("admin:sync_record_change", args=[saved.record_id]))


def _owner_id(request: HttpRequest) -> int | None:
    """Return who looks after the new record: the person who makes it."""
    return request.user.pk


def _page(request: HttpRequest, resource: Resource, form: RecordForm, *, status: int = 200) -> HttpResponse:
    context = {
        "resource": resource,
        "form": form,
        "groups": form.groups(),
        "zone": timezone.get_current_timezone_name(),
        "once": request.POST.get("once") or uuid.uuid4().hex,
        "back": list_query(request),
    }
    title = f"New record of {resource}"
    return render(request, "sync/record_add.html", title=title, context=context, status=status)
