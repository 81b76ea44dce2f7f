"""The admin site that is the product's shell.

Owns: what every page knows (navigation), and what stays out of the admin (django-q2's tables: their rows are unsigned
pickles and a schedule row can call any function). Does not: define pages; each app's admin module does.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import Model
from django.db.models.base import ModelBase
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _

from syncportal.kernel.clock import db_now
from syncportal.ops.metrics.scope import UnknownScope, scope_of
from syncportal.ops.metrics.snapshot import snapshot
from syncportal.ops.navigation import navigation
from syncportal.ops.screens import dashboard
from syncportal.sync import my_work
from syncportal.sync.screens import live
from syncportal.sync.screens import my_work as my_work_page
from syncportal.sync.windows import DEFAULT, WINDOWS

NEVER_REGISTERED = frozenset({"django_q"})


class SyncPortalAdminSite(AdminSite):
    """SyncPortal's admin."""

    site_header = "SyncPortal"
    site_title = "SyncPortal"
    index_title = _("Dashboard")
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
            path("live/", self.live, name="live"),
        ]
        return [*own, *super().get_urls()]

    def start(self, request: HttpRequest) -> HttpResponse:
        """Send owners to their work, unless they ask for the numbers of a time; show everybody else where it stands."""
        if my_work.starts_here(request.user) and not request.GET:
            return HttpResponseRedirect(reverse("admin:my_work"))
        return self.index(request)

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show the dashboard: the navigation is not by Django's apps, so none has a page."""
        return self.index(request)

    def live(self, request: HttpRequest) -> HttpResponseBase:
        """Answer what every page listens to; a stream cannot follow to the login, so it is told to end."""
        if live.wants_stream(request) and not self.has_permission(request):
            return HttpResponse(status=204)  # a browser takes this for "do not ask again"
        return self.admin_view(live.view)(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add the navigation to what every page knows."""
        context = super().each_context(request)
        signed_in = self.has_permission(request)
        return {**context, "navigation": navigation(request) if signed_in else ()}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the dashboard: where everything stands, and what needs a person; to a script only what moves."""
        window = WINDOWS.get(request.GET.get("window", ""), DEFAULT)
        try:
            scope = scope_of(
                request.user, remote=request.GET.get("remote", ""), resource=request.GET.get("resource", "")
            )
        except UnknownScope as unknown:
            raise Http404(str(unknown)) from unknown
        board = dashboard.page(snapshot(scope, now=db_now(), window=window))
        if request.headers.get("HX-Request"):
            answer = TemplateResponse(request, "dashboard/_refresh.html", {**board, "navigation": navigation(request)})
        else:
            answer = super().index(
                request, {**board, **dashboard.filters(scope, window=window), **(extra_context or {})}
            )
        patch_vary_headers(answer, ("HX-Request",))
        return answer
