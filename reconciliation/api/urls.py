"""Addresses under `/api/v1/` that belong to reconciliation."""

from rest_framework.routers import SimpleRouter

from reconciliation.api.views import DiscrepancyViews, RunViews

router = SimpleRouter()
router.register("reconciliation-runs", RunViews, basename="reconciliation-run")
router.register("discrepancies", DiscrepancyViews, basename="discrepancy")

app_name = "reconciliation"
urlpatterns = router.urls
