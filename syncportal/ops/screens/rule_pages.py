"""Alert rules: the list, the form, the history.

Guarantees: what cannot work is refused with the reason at its field, and the input is kept; a form that somebody else
overtook is not saved; every change is in the history with who did it.
"""

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET, require_POST

from syncportal.ops.alerts import rights, rule_store
from syncportal.ops.alerts.kinds import KINDS
from syncportal.ops.alerts.models import AlertRule
from syncportal.ops.alerts.rule_store import RuleInvalid
from syncportal.ops.alerts.states import LIVE
from syncportal.ops.screens.alert_forms import KindForm, RuleForm
from syncportal.ops.screens.alert_looks import severity_badge
from syncportal.ops.screens.changes import history_page
from syncportal.sync.screens.page import render

_COLUMNS = ("enabled", "severity", "scope", "remote_id", "resource_id", "threshold", "window_min", "minimum")


class RuleAdmin(ModelAdmin):
    """Rules: the addresses of their pages."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses; none of the pages runs in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(rules_view), name="ops_alertrule_changelist"),
            path("add/", wrap(add_view), name="ops_alertrule_add"),
            path("<int:rule_id>/change/", wrap(change_view), name="ops_alertrule_change"),
            path("<int:rule_id>/history/", wrap(history_view), name="ops_alertrule_history"),
            path("<int:rule_id>/remove/", wrap(remove_view), name="ops_alertrule_remove"),
        ]


@require_GET
def rules_view(request: HttpRequest) -> HttpResponse:
    """Show all rules with how many alerts each has open."""
    _require_seeing(request)
    live = Count("alerts", filter=Q(alerts__state__in=sorted(LIVE)))
    rows = AlertRule.objects.select_related("remote", "resource").annotate(live=live).order_by("pk")
    shown = [
        (row, kind, severity_badge(row.severity), kind.threshold.shown(row.threshold) if kind.threshold else "")
        for row in rows
        for kind in [KINDS[row.kind]]
    ]
    context = {"rules": shown, "tab": "rules", "may_configure": rights.may_configure(request.user)}
    return render(request, "alerts/rules.html", title="Alert rules", context=context)


def add_view(request: HttpRequest) -> HttpResponse:
    """Choose a kind, then show the form of a new rule, or save it."""
    if not rights.may_configure(request.user):
        raise PermissionDenied
    kind = request.GET.get("kind", "")
    if kind not in KINDS:
        context = {"kinds": KINDS.values(), "form": KindForm(), "tab": "rules"}
        return render(request, "alerts/rule_add.html", title="Add a rule", context=context)
    usual = rule_store.default_of(kind)
    initial = {name: getattr(usual, name) for name in ("enabled", "severity", "scope", "threshold", "window_min",
                                                       "minimum")}  # fmt: skip
    form = RuleForm(request.POST or None, kind=kind, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            row = rule_store.store(None, form.wanted(), actor=request.user)
        except RuleInvalid as refusal:
            form.add_problems(refusal.problems)
        else:
            messages.success(request, "Added. It is evaluated within a minute.")
            return HttpResponseRedirect(reverse("admin:ops_alertrule_change", args=[row.pk]))
    return _page(request, None, form)


def change_view(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Show a rule, or save its form."""
    row = _found(request, rule_id)
    if request.method != "POST":
        return _page(request, row, RuleForm(kind=row.kind, initial=RuleForm.initial_of(row)))
    if not rights.may_configure(request.user):
        raise PermissionDenied
    form = RuleForm(request.POST, kind=row.kind, initial=RuleForm.initial_of(row))
    if request.POST.get("seen") != row.updated_at.isoformat():
        messages.error(request, "Somebody else saved this rule meanwhile; nothing was changed. Look again, then save.")
        return _page(request, row, form, status=409)
    if form.is_valid():
        try:
            rule_store.store(row, form.wanted(), actor=request.user)
        except RuleInvalid as refusal:
            form.add_problems(refusal.problems)
        else:
            messages.success(request, "Saved. It holds from the next evaluation on.")
            return HttpResponseRedirect(reverse("admin:ops_alertrule_change", args=[row.pk]))
    return _page(request, row, form)


@require_GET
def history_view(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Show what changed."""
    row = _found(request, rule_id)
    return history_page(request, row, url_name="ops_alertrule", list_name="Alert rules", columns=_COLUMNS)


@require_POST
def remove_view(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Remove a rule that is not the only one of its kind, with its alerts."""
    row = _found(request, rule_id)
    if not rights.may_configure(request.user):
        raise PermissionDenied
    try:
        rule_store.remove(row, actor=request.user)
    except RuleInvalid as refusal:
        messages.warning(request, f"Nothing was changed. {refusal}")
        return HttpResponseRedirect(reverse("admin:ops_alertrule_change", args=[row.pk]))
    messages.success(request, "Removed, with its alerts.")
    return HttpResponseRedirect(reverse("admin:ops_alertrule_changelist"))


def _require_seeing(request: HttpRequest) -> None:
    if not rights.may_see(request.user):
        raise PermissionDenied


def _found(request: HttpRequest, rule_id: int) -> AlertRule:
    _require_seeing(request)
    row = AlertRule.objects.select_related("remote", "resource").filter(pk=rule_id).first()
    if row is None:
        raise Http404("There is no such rule.")
    return row


def _page(request: HttpRequest, row: AlertRule | None, form: RuleForm, *, status: int = 0) -> HttpResponse:
    narrowed = row is not None and (row.remote_id is not None or row.resource_id is not None)
    context = {
        "rule": row,
        "kind": form.kind,
        "form": form,
        "groups": form.groups(),
        "seen": row.updated_at.isoformat() if row else "",
        "may_configure": rights.may_configure(request.user),
        "open_alerts": row.alerts.filter(state__in=sorted(LIVE)).order_by("-id")[:20] if row else (),
        "may_remove": narrowed,
    }
    code = status or (422 if form.is_bound and form.errors else 200)
    title = str(row) if row else f"Add a rule: {form.kind.label}"
    return render(request, "alerts/rule_page.html", title=title, context=context, status=code)
