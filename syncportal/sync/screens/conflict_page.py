"""One conflict: what happened, the differing fields, three ways out.

Owns: reading a person's decision from the form and showing it again when it cannot be carried out. Guarantees: what
was decided on a stale view is not written, the fresh values are shown and the choices kept; a second click finds the
conflict resolved and does no harm; works without a script.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from syncportal.remote.spec import ResourceSpec, spec_for
from syncportal.sync import resolve, rights
from syncportal.sync.conflicts import three_way
from syncportal.sync.models import Conflict, Event, Record
from syncportal.sync.resolve import Action, AlreadyResolved, Decision, FieldView, ImpossibleDecision, StaleView
from syncportal.sync.schema_fields import Place, place_at
from syncportal.sync.screens.page import actor_of, list_query, render, with_back
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import Shown, shown
from syncportal.sync.states import Intent

NONE_VERSION = "-"


@dataclass(slots=True)
class Row:
    """One field of the conflict: its values, the person's choice, and a field to type another value."""

    view: FieldView
    label: str
    base: Shown
    local: Shown
    remote: Shown
    place: Place
    typed: forms.Field
    choice: str
    posted: Any = None
    errors: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name of the radio buttons."""
        return f"choice:{self.view.pointer}"

    @property
    def typed_name(self) -> str:
        """Return the name of the field for a typed value."""
        return f"value:{self.view.pointer}"

    def typed_input(self) -> str:
        """Return the input for a typed value, filled with what was typed or the local value."""
        start = self.posted if self.posted is not None else self.place.shown(self.view.local)
        attrs = {**self.typed.widget.attrs, "aria-label": f"Another value for {self.label}"}
        return self.typed.widget.render(self.typed_name, start, attrs=attrs)


def conflict_view(request: HttpRequest, conflict_id: int) -> HttpResponse:
    """Show a conflict, or carry out the decision on it."""
    conflict = _visible(request, conflict_id)
    if request.method == "POST":
        if not rights.may_operate(request.user, conflict.record):
            raise PermissionDenied
        return _decide(request, conflict)
    return _page(request, conflict)


def _visible(request: HttpRequest, conflict_id: int) -> Conflict:
    if not (request.user.has_perm("sync.view_conflict") or rights.may_look(request.user)):
        raise PermissionDenied
    rows = Conflict.objects.visible_to(request.user)
    rows = rows.select_related("record__job", "record__owner", "resource__remote", "resolved_by")
    conflict = rows.filter(pk=conflict_id).first()
    if conflict is None:
        raise Http404("There is no such conflict, or it is not yours.")
    return conflict


def _decide(request: HttpRequest, conflict: Conflict) -> HttpResponse:
    spec = spec_for(conflict.resource)
    if conflict.state != Conflict.State.OPEN:
        return _page(request, conflict, already=True, status=409)
    action = request.POST.get("action", "")
    if action not in set(Action):
        messages.error(request, "Choose one of the three ways; nothing was changed.")
        return _page(request, conflict, posted=request.POST, status=422)
    rows = rows_of(conflict, spec, posted=request.POST)
    chosen = _choices(request.POST, rows) if action == Action.MERGE else {}
    if any(row.errors for row in rows):
        return _page(request, conflict, rows=rows, posted=request.POST, status=422)
    revision = request.POST.get("revision", "")
    version = request.POST.get("remote_version", "")
    decision = Decision(
        action=Action(action),
        revision=int(revision) if revision.isdecimal() and len(revision) < 18 else -1,
        remote_version=None if version == NONE_VERSION else version.removeprefix("="),
        fields=chosen,
    )
    try:
        status = resolve.resolve(conflict.pk, decision, actor=actor_of(request.user))
    except AlreadyResolved:
        return _page(request, _visible(request, conflict.pk), already=True, status=409)
    except StaleView:
        return _page(request, _visible(request, conflict.pk), posted=request.POST, stale=True, status=409)
    except ImpossibleDecision as refusal:
        for problem in refusal.problems:
            row = next((one for one in rows if problem.pointer and problem.pointer.startswith(one.view.pointer)), None)
            if row is not None:
                row.errors.append(problem.detail)
            else:
                messages.error(request, f"{problem.detail} Nothing was changed.")
        return _page(request, conflict, rows=rows, posted=request.POST, status=422)
    messages.success(request, _DONE[decision.action] + (" Syncing…" if status == "PENDING" else ""))
    address = reverse("admin:sync_record_change", args=[conflict.record_id])
    return HttpResponseRedirect(with_back(address, ""))


_DONE = {
    Action.USE_REMOTE: "Resolved: the remote's values are used here.",
    Action.PUSH_LOCAL: "Resolved: your values are sent to the remote.",
    Action.MERGE: "Resolved: the merged values are sent to the remote.",
}


def rows_of(conflict: Conflict, spec: ResourceSpec, *, posted: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the differing fields, those in conflict first, with the choices made so far."""
    merge = three_way(conflict.base, conflict.local or {}, conflict.remote or {}, comparator=spec.comparator)
    rows = []
    for number, view in enumerate(view for view in resolve.field_views(conflict, spec) if view.differs):
        place = place_at(spec.schema, view.pointer, view.local if view.local is not None else view.remote)
        typed = place.field()
        typed.widget.attrs |= {"id": f"typed-{number}", **({"rows": 2} if "rows" in typed.widget.attrs else {})}
        merged = "local" if view.pointer in merge.local_changes else "remote"
        row = Row(
            view=view, label=label_of(spec, view.pointer), base=shown(view.base), local=shown(view.local),
            remote=shown(view.remote), place=place, typed=typed, choice="" if view.in_conflict else merged,
        )  # fmt: skip
        if posted is not None:
            row.choice = posted.get(row.name, row.choice)
            row.posted = posted.get(row.typed_name)
        rows.append(row)
    return rows


def _choices(posted: Mapping[str, Any], rows: list[Row]) -> dict[str, Any]:
    """Read the per-field choices; what is missing or cannot be read is noted at its row."""
    chosen: dict[str, Any] = {}
    for row in rows:
        at = row.view.pointer
        if row.choice in ("local", "remote"):
            chosen[at] = row.choice
        elif row.choice == "value":
            try:
                chosen[at] = {"value": row.place.json_value(row.typed.clean(posted.get(row.typed_name)))}
            except ValidationError as problem:
                row.errors.extend(problem.messages)
        elif row.view.in_conflict:
            row.errors.append("Choose the local value, the remote value, or type another one.")
    return chosen


def _page(
    request: HttpRequest,
    conflict: Conflict,
    *,
    rows: list[Row] | None = None,
    posted: Mapping[str, Any] | None = None,
    stale: bool = False,
    already: bool = False,
    status: int = 200,
) -> HttpResponse:
    spec = spec_for(conflict.resource)
    record = conflict.record
    rows = rows if rows is not None else rows_of(conflict, spec, posted=posted)
    open_now = conflict.state == Conflict.State.OPEN
    version = NONE_VERSION if conflict.remote_version is None else f"={conflict.remote_version}"
    context = {
        "conflict": conflict,
        "record": record,
        "rows": rows,
        "in_conflict": sum(row.view.in_conflict for row in rows),
        "same": [view for view in _same_fields(conflict, spec)],
        "what_happened": what_happened(conflict, rows),
        "use_remote": _use_remote(conflict, record),
        "push_local": _push_local(conflict, record),
        "gone_remote": conflict.remote is None,
        "deleting": record.intent == Intent.DELETE,
        "can_merge": conflict.remote is not None and record.intent != Intent.DELETE,
        "can_decide": open_now and rights.may_operate(request.user, record),
        "is_open": open_now,
        "stale": stale,
        "already": already,
        "has_errors": any(row.errors for row in rows),
        "revision": record.revision,
        "remote_version": version,
        "last_edit": _last_edit(record),
        "resolution": resolution_words(conflict),
        "back": list_query(request),
    }
    return render(request, "sync/conflict_page.html", title=f"Conflict: {record}", context=context, status=status)


def _same_fields(conflict: Conflict, spec: ResourceSpec) -> list[tuple[str, Shown]]:
    return [
        (label_of(spec, view.pointer), shown(view.local))
        for view in resolve.field_views(conflict, spec)
        if not view.differs
    ]


def _last_edit(record: Record) -> Event | None:
    edits = Event.objects.filter(record_id=record.pk, kind__in=("record.edited", "record.created", "record.deleted"))
    return edits.select_related("actor").order_by("-id").first()


def what_happened(conflict: Conflict, rows: list[Row]) -> str:
    """Say in one sentence how the conflict came about."""
    names = [row.label for row in rows if row.view.in_conflict]
    listed = _listed(names)
    match conflict.reason:
        case Conflict.Reason.DELETED_REMOTE:
            return "The object was deleted at the remote, while it still exists here."
        case Conflict.Reason.DELETED_LOCAL:
            return "It was deleted here, but it changed at the remote since you last agreed."
        case Conflict.Reason.STALE_REMOTE:
            return "The remote shows an older version than it did before. It may have been restored from a backup."
        case Conflict.Reason.VERSION_REUSE:
            return "The remote shows other content under the same version, so its versions cannot be trusted here."
        case Conflict.Reason.UNDO_CONFLICT:
            return "A group was undone, but somebody else had changed the same field before it could be put back."
    if not names:
        return "Both sides changed since they last agreed."
    was = "was" if len(names) == 1 else "were"
    return f"{listed} {was} changed both here and at the remote, to different values."


def _listed(names: list[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _use_remote(conflict: Conflict, record: Record) -> tuple[str, str]:
    if conflict.remote is None:
        return "Accept the deletion", "The record is deleted here, too. Nothing is sent."
    if record.intent == Intent.DELETE:
        return "Keep the object", "The deletion is taken back, and the remote's values are used here."
    return "Use remote", "The remote's values are used here; yours are kept in the history. Nothing is sent."


def _push_local(conflict: Conflict, record: Record) -> tuple[str, str]:
    if conflict.remote is None:
        return "Create it again", "Your values are sent as a new object; its id may change."
    if record.intent == Intent.DELETE:
        return "Delete it anyway", "The object is deleted at the remote, in the version shown here."
    return "Push local", "Your values overwrite those of the remote, in the version shown here."


def resolution_words(conflict: Conflict) -> str:
    """Return how a conflict was resolved, "" while it is open."""
    return {
        "use_remote": "The remote's values were used.",
        "push_local": "The local values were pushed.",
        "merge": "It was merged field by field.",
        "forced": "An operator restored the values from before the grouped update.",
        "closed": "An operator closed the undo and left the object as the remote has it.",
    }.get(conflict.resolution, conflict.resolution)
