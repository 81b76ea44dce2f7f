"""The admin site that is the product's shell.

Owns: what every page knows (navigation), and what stays out of the admin (django-q2's tables: their rows are unsigned
pickles and a schedule row can call any function). Does not: define pages; each app's admin module does.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import Model
from django.db.models.base import ModelBase
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _

from syncportal.kernel.clock import db_now
from syncportal.ops import heartbeat
from syncportal.ops.metrics import snapshot
from syncportal.ops.navigation import address, navigation, records_with
from syncportal.sync import my_work
from syncportal.sync.screens import my_work as my_work_page
from syncportal.sync.states import Status

NEVER_REGISTERED = frozenset({"django_q"})


class SyncPortalAdminSite(AdminSite):
    """SyncPortal's admin."""

    site_header = "SyncPortal"
    site_title = "SyncPortal"
    index_title = _("Start")
    site_url = None
    enable_nav_sidebar = False  # the shell has its own
    empty_value_display = "–"

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[ModelAdmin] | None = None,
        **options: Any,
    ) -> None:
        """Register models as usual, but leave out those of apps whose rows are code."""
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else list(model_or_iterable)
        allowed = [model for model in models if model._meta.app_label not in NEVER_REGISTERED]
        super().register(allowed, admin_class, **options)

    def get_urls(self) -> list[Any]:
        """Add the pages that belong to no table."""
        own = [
            path("", self.admin_view(self.start), name="index"),
            path("work/", self.admin_view(my_work_page.view), name="my_work"),
        ]
        return [*own, *super().get_urls()]

    def start(self, request: HttpRequest) -> HttpResponse:
        """Send owners to their work, unless they ask for the numbers of a time; show everybody else where it stands."""
        if my_work.starts_here(request.user) and not request.GET:
            return HttpResponseRedirect(reverse("admin:my_work"))
        return self.index(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add the navigation to what every page knows."""
        context = super().each_context(request)
        signed_in = self.has_permission(request)
        return {**context, "navigation": navigation(request) if signed_in else ()}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the start page: where everything stands, and what needs a person."""
        now = db_now()
        start = snapshot(user=request.user, now=now, workers=heartbeat.seen(now))
        page = {
            "start": start,
            "statuses": [(item, records_with(item.status)) for item in start.statuses],
            "records_url": address("admin:sync_record_changelist"),
            "conflicts_url": address("admin:sync_conflict_changelist"),
            "dead_letters_url": records_with(Status.DEAD_LETTER),
            "due_url": address("admin:sync_record_changelist", "age=due"),
            "tasks_url": address("admin:rollback_compensatingtask_changelist"),
            "log_url": address("admin:sync_synclog_changelist"),
        }
        return super().index(request, {**page, **(extra_context or {})})
