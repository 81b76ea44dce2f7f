"""The navigation of the shell, as one list.

Owns: which sections and entries exist, who sees them, and their numbers. Guarantees: an entry appears only when its
address exists and the person has its permission; a section without entries does not appear. Does not: protect the pages
themselves; every view checks for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from reconciliation.models import Discrepancy
from rollback import metrics as compensations
from rollback import visibility
from syncportal.kernel.clock import db_now
from syncportal.ops.alerts.rights import visible_alerts
from syncportal.ops.alerts.states import AlertState
from syncportal.sync import error_reading, my_work
from syncportal.sync.models import Conflict, SyncJob
from syncportal.sync.states import Status

Badge = Callable[[HttpRequest], int]


def open_conflicts(request: HttpRequest) -> int:
    """Count the conflicts that wait for the person who looks."""
    return Conflict.objects.visible_to(request.user).open().count()


def waiting_for_me(request: HttpRequest) -> int:
    """Count the conflicts and failed edits that wait for the person who looks."""
    return my_work.count_of(request.user)


def dead_letters(request: HttpRequest) -> int:
    """Count the dead letters that the person may see."""
    dead = SyncJob.objects.filter(status=Status.DEAD_LETTER, record__deleted_at__isnull=True)
    return dead.visible_to(request.user).count()


def open_alerts(request: HttpRequest) -> int:
    """Count the alerts that nobody has taken on yet."""
    return visible_alerts(request.user).filter(state=AlertState.OPEN).count()


def failed_undos(request: HttpRequest) -> int:
    """Count the undos that wait for a person."""
    return visibility.tasks_of(request.user).filter(compensations.WAITING_FOR_PERSON).count()


def open_discrepancies(request: HttpRequest) -> int:
    """Count the differences that wait for a decision and that the person may see."""
    return Discrepancy.objects.visible_to(request.user).open().count()


def open_error_groups(request: HttpRequest) -> int:
    """Count the causes of failures that nobody looked away from, among the records that the person sees."""
    return error_reading.open_count(request.user, now=db_now())


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `url_name` with an optional `query`; `permission` "" means everybody who is signed in."""

    label: str | Promise
    icon: str
    url_name: str
    permission: str = ""
    query: str = ""
    badge: Badge | None = None
    attention: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A titled group of entries."""

    label: str | Promise
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry as the template draws it."""

    label: str | Promise
    icon: str
    url: str
    current: bool
    count: int
    attention: bool


@dataclass(frozen=True, slots=True)
class ShownSection:
    """A section as the template draws it."""

    label: str | Promise
    items: tuple[ShownEntry, ...]


STATUS_FILTER = "status"  # the query parameter of the record list
_DEAD_LETTERS = f"{STATUS_FILTER}={Status.DEAD_LETTER}"

NAV: tuple[Section, ...] = (
    Section(
        _("Operations"),
        (
            Entry(_("Dashboard"), "home", "admin:index"),
            Entry(_("My work"), "inbox", "admin:my_work", "sync.view_record", badge=waiting_for_me, attention=True),
            Entry(_("Records"), "records", "admin:sync_record_changelist", "sync.view_record"),
            Entry(
                _("Conflicts"),
                "split",
                "admin:sync_conflict_changelist",
                "sync.view_conflict",
                badge=open_conflicts,
                attention=True,
            ),
            Entry(
                _("Error groups"),
                "cross",
                "admin:sync_errorgroup_changelist",
                "sync.view_record",
                badge=open_error_groups,
                attention=True,
            ),
            Entry(
                _("Dead letters"),
                "stop",
                "admin:sync_record_changelist",
                "sync.view_record",
                query=_DEAD_LETTERS,
                badge=dead_letters,
                attention=True,
            ),
            Entry(
                _("Alerts"),
                "bell",
                "admin:ops_alert_changelist",
                "sync.see_all_records",
                badge=open_alerts,
                attention=True,
            ),
            Entry(_("Grouped updates"), "together", "admin:rollback_group_changelist", "sync.view_record"),
            Entry(
                _("Compensating tasks"),
                "retry",
                "admin:rollback_compensatingtask_changelist",
                "sync.view_record",
                badge=failed_undos,
                attention=True,
            ),
            Entry(
                _("Discrepancies"),
                "differ",
                "admin:reconciliation_discrepancy_changelist",
                "sync.view_record",
                badge=open_discrepancies,
                attention=True,
            ),
            Entry(_("Reconciliation"), "sync", "admin:reconciliation_run_changelist", "sync.see_all_records"),
            Entry(_("Bulk operations"), "many", "admin:bulk_bulkoperation_changelist", "sync.view_record"),
            Entry(_("Sync log"), "log", "admin:sync_synclog_changelist", "sync.view_synclog"),
            Entry(_("Events"), "events", "admin:sync_event_changelist", "sync.view_event"),
        ),
    ),
    Section(
        _("Connections"),
        (
            Entry(_("Remotes"), "remote", "admin:remote_remote_changelist", "remote.view_remote"),
            Entry(_("Resources"), "resource", "admin:remote_resource_changelist", "remote.view_resource"),
        ),
    ),
    Section(
        _("System"),
        (
            Entry(_("Workers"), "worker", "admin:ops_heartbeat_changelist", "sync.see_all_records"),
            Entry(_("Timetable"), "clock", "admin:ops_duty_changelist", "sync.see_all_records"),
            Entry(_("Users"), "user", "admin:auth_user_changelist", "auth.view_user"),
            Entry(_("Roles"), "users", "admin:auth_group_changelist", "auth.view_group"),
            Entry(_("API keys"), "key", "admin:access_apikey_changelist"),
        ),
    ),
)


def address(url_name: str, query: str = "") -> str:
    """Return the address of a page, or "" when it is not part of this installation."""
    try:
        path = reverse(url_name)
    except NoReverseMatch:
        return ""
    return f"{path}?{query}" if query else path


def records_with(status: str) -> str:
    """Return the address of the record list, filtered by status."""
    return address("admin:sync_record_changelist", f"{STATUS_FILTER}={status}")


def navigation(request: HttpRequest) -> tuple[ShownSection, ...]:
    """Return the sections this person sees, with numbers and the current page marked."""
    shown = []
    for section in NAV:
        items = tuple(item for entry in section.entries if (item := _shown(entry, request)) is not None)
        if items:
            shown.append(ShownSection(section.label, items))
    return tuple(shown)


def _shown(entry: Entry, request: HttpRequest) -> ShownEntry | None:
    if entry.permission and not request.user.has_perm(entry.permission):
        return None
    path = address(entry.url_name)
    if not path or (entry.url_name == "admin:index" and my_work.starts_here(request.user)):
        return None
    return ShownEntry(
        label=entry.label,
        icon=entry.icon,
        url=address(entry.url_name, entry.query),
        current=_is_current(entry, path, request),
        count=entry.badge(request) if entry.badge else 0,
        attention=entry.attention,
    )


def _is_current(entry: Entry, path: str, request: HttpRequest) -> bool:
    if entry.url_name == "admin:index":
        return request.path == path
    wants_query = any(other.query in request.META["QUERY_STRING"] for other in _same_page(entry) if other.query)
    if entry.query:
        return request.path == path and entry.query in request.META["QUERY_STRING"]
    return request.path.startswith(path) and not (request.path == path and wants_query)


def _same_page(entry: Entry) -> list[Entry]:
    return [other for section in NAV for other in section.entries if other.url_name == entry.url_name]
