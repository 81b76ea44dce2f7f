"""API keys: the list, making one, revoking one.

Owns: these pages. Guarantees: a key is shown once, in the answer that made it, and that answer is never stored;
everybody sees, makes and revokes their own, administrators everybody's; nobody makes a key for somebody with more
rights. Making and revoking are in the history with who did it. Does not: check keys; access/keys.py does.
"""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin, ShowFacets
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from syncportal.access import keys
from syncportal.access.keys import ALL_SCOPES, Scope
from syncportal.access.models import ApiKey
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.ops.screens.connection_badges import badge
from syncportal.sync import events
from syncportal.sync.events import Fact, Kind
from syncportal.sync.forms import Group
from syncportal.sync.querysets import Person
from syncportal.sync.screens.page import actor_of, render
from syncportal.sync.screens.values import time_tag

VIEW, ADD, CHANGE = "access.view_apikey", "access.add_apikey", "access.change_apikey"
LIST = "admin:access_apikey_changelist"
DAYS = (("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("0", "without end"))
SCOPE_LABELS = {
    Scope.READ: ("Read", "See what the person may see."),
    Scope.WRITE: ("Write", "Make, change and delete; act on the person's own records."),
    Scope.OPERATE: ("Operate", "Retry, refresh and resolve records of others; give records to owners."),
}


class KeyForm(forms.Form):
    """A new key: what for, whose, what it may do, how long."""

    name = forms.CharField(max_length=100, help_text="What uses it, as people will see it in the list.")
    read = forms.BooleanField(required=False, initial=True, label=SCOPE_LABELS[Scope.READ][0],
                              help_text=SCOPE_LABELS[Scope.READ][1])  # fmt: skip
    write = forms.BooleanField(required=False, label=SCOPE_LABELS[Scope.WRITE][0],
                               help_text=SCOPE_LABELS[Scope.WRITE][1])  # fmt: skip
    operate = forms.BooleanField(required=False, label=SCOPE_LABELS[Scope.OPERATE][0],
                                 help_text=SCOPE_LABELS[Scope.OPERATE][1])  # fmt: skip
    days = forms.ChoiceField(choices=DAYS, initial="90", label="Works for")
    person = forms.CharField(max_length=150, help_text="The key acts with this person's rights.")

    def __init__(self, *args: Any, maker: Person, **options: Any) -> None:
        super().__init__(*args, **options)
        self.maker = maker
        self.fields["person"].initial = maker.get_username()
        if not maker.has_perm(ADD):
            del self.fields["person"]

    def clean_person(self) -> User:
        """Return the person; only a superuser makes keys for superusers, whose keys may do everything."""
        found = User.objects.filter(username=self.cleaned_data["person"].strip(), is_active=True).first()
        if found is None:
            raise forms.ValidationError("There is no active person with this name.")
        if found.is_superuser and not self.maker.is_superuser:
            raise forms.ValidationError("Only a superuser may make a key for a superuser.")
        return found

    def clean(self) -> dict[str, Any]:
        """Refuse a key that may do nothing."""
        cleaned = super().clean() or {}
        if not self.scopes():
            raise forms.ValidationError("Choose at least one of read, write and operate.")
        return cleaned

    def scopes(self) -> list[Scope]:
        """Return the scopes that were chosen."""
        return [scope for scope in ALL_SCOPES if self.cleaned_data.get(scope.value)]

    def groups(self) -> list[Group]:
        """Return the fields in the order of the page."""
        scopes = tuple(self[scope.value] for scope in ALL_SCOPES)
        rest = tuple(self[name] for name in ("days", "person") if name in self.fields)
        return [Group("", (self["name"],)), Group("It may", scopes), Group("", rest)]


class KeyAdmin(ModelAdmin):
    """API keys: the list and the addresses of their pages."""

    change_list_template = "access/key_list.html"
    list_display = ("key", "person", "may", "state", "used", "ends")
    list_display_links = None
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__username")
    search_help_text = "Name, beginning of the key, or person"
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    actions = None
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the keys that the person may see."""
        return visible_to(request.user)

    def key(self, row: ApiKey) -> SafeString:
        """Show the name and the beginning as the link."""
        address = reverse("admin:access_apikey_change", args=[row.pk])
        return format_html(
            '<a class="row-title" href="{}">{}</a> <span class="mono small muted">{}…</span>',
            address, row.name, row.prefix,
        )  # fmt: skip

    def person(self, row: ApiKey) -> str:
        """Show whose rights it has."""
        return str(row.user)

    def may(self, row: ApiKey) -> str:
        """Show its scopes."""
        return ", ".join(row.scopes)

    def state(self, row: ApiKey) -> SafeString:
        """Show whether it works."""
        return state_badge(row, now=db_now())

    def used(self, row: ApiKey) -> SafeString:
        """Show when it was last used."""
        if row.last_used_at is None:
            return format_html('<span class="muted">{}</span>', "never")
        return format_html("{} ago", time_tag(row.last_used_at, now=db_now()))

    def ends(self, row: ApiKey) -> SafeString:
        """Show when it ends by itself."""
        return format_html("until {}", time_tag(row.expires_at)) if row.expires_at else format_html("{}", "without end")

    used.short_description = "last used"  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="access_apikey_changelist"),
            path("add/", wrap(add), name="access_apikey_add"),
            path("<int:key_id>/change/", wrap(show), name="access_apikey_change"),
            path("<int:key_id>/revoke/", wrap(revoke), name="access_apikey_revoke"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Everybody sees their own."""
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Everybody makes their own."""
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A key is never changed, only revoked."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: people must see later why a program stopped."""
        return False


def visible_to(person: Person) -> Any:
    """Return everybody's keys to administrators, else the person's own."""
    rows = ApiKey.objects.select_related("user").order_by("-id")
    return rows if person.has_perm(VIEW) else rows.filter(user__username=person.get_username())


def state_badge(row: ApiKey, *, now: datetime) -> SafeString:
    """Return whether a key works, and if not, why."""
    if row.revoked_at is not None:
        return badge("error", "stop", "Revoked")
    if row.expires_at is not None and row.expires_at <= now:
        return badge("warning", "clock", "Expired")
    if not row.user.is_active:
        return badge("warning", "pause", "Person inactive")
    return badge("success", "check", "Works")


def _found(request: HttpRequest, key_id: int) -> ApiKey:
    row = visible_to(request.user).filter(pk=key_id).first()
    if row is None:
        raise Http404("There is no such key.")
    return row


def _may_revoke(person: Person, row: ApiKey) -> bool:
    return row.user_id == person.pk or person.has_perm(CHANGE)


def add(request: HttpRequest) -> HttpResponse:
    """Show the form of a new key, or make it and show it once."""
    form = KeyForm(request.POST or None, maker=request.user)
    if request.method != "POST" or not form.is_valid():
        context = {"form": form, "groups": form.groups()}
        return render(
            request, "access/key_add.html", title="New API key", context=context, status=422 if form.is_bound else 200
        )
    owner = form.cleaned_data.get("person") or User.objects.get(username=request.user.get_username())
    key = atomic_retry(lambda: _made(form, owner, by=request.user))
    answer = render(request, "access/key_made.html", title="New API key", context={"key": key, "owner": owner})
    answer["Cache-Control"] = "no-store"
    return answer


def _made(form: KeyForm, owner: User, *, by: Person) -> str:
    now, days = db_now(), int(form.cleaned_data["days"])
    expires_at = now + timedelta(days=days) if days else None
    name, scopes = form.cleaned_data["name"], form.scopes()
    key = keys.create_key(owner, name=name, scopes=scopes, expires_at=expires_at, now=now)
    data = {"name": name, "prefix": key[:11], "person": owner.get_username(), "scopes": [str(one) for one in scopes]}
    events.write([Fact(Kind.API_KEY_MADE, actor=actor_of(by), data=data)], now=now)
    return key


def show(request: HttpRequest, key_id: int) -> HttpResponse:
    """Show one key, without the key."""
    row = _found(request, key_id)
    context = {
        "row": row, "state": state_badge(row, now=db_now()), "scopes": ", ".join(row.scopes),
        "can_revoke": row.revoked_at is None and _may_revoke(request.user, row),
    }  # fmt: skip
    return render(request, "access/key_page.html", title=row.name, context=context)


@require_POST
def revoke(request: HttpRequest, key_id: int) -> HttpResponse:
    """Make a key useless from now on."""
    row = _found(request, key_id)
    if not _may_revoke(request.user, row):
        raise Http404("There is no such key.")
    if atomic_retry(lambda: _revoked(row, by=request.user)):
        messages.success(request, f"Revoked. Programs that use “{row.name}” are refused from now on.")
    else:
        messages.info(request, "It was revoked already.")
    return HttpResponseRedirect(reverse("admin:access_apikey_change", args=[row.pk]))


def _revoked(row: ApiKey, *, by: Person) -> bool:
    now = db_now()
    if not keys.revoke(row.pk, now=now):
        return False
    data = {"name": row.name, "prefix": row.prefix, "person": row.user.get_username()}
    events.write([Fact(Kind.API_KEY_REVOKED, actor=actor_of(by), data=data)], now=now)
    return True
