"""Every address of the product, in one list."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from syncportal.ops import health
from syncportal.ops.api.prometheus import MetricsView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("syncportal.sync.api.urls")),
    path("api/v1/", include("rollback.api.urls")),
    path("api/v1/", include("reconciliation.api.urls")),
    path("api/v1/", include("syncportal.ops.api.urls")),
    path("api/", include("syncportal.access.urls")),  # last under api/: it answers unknown addresses, too
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
]

handler400 = "syncportal.ops.error_pages.bad_request"
handler403 = "syncportal.ops.error_pages.permission_denied"
handler404 = "syncportal.ops.error_pages.page_not_found"
handler500 = "syncportal.ops.error_pages.server_error"
