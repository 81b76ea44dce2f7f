"""Addresses under `/api/v1/` that belong to operation."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from syncportal.ops.api.alerts import AlertViews
from syncportal.ops.api.summary import SummaryViews

router = SimpleRouter()
router.register("alerts", AlertViews, basename="alert")

app_name = "ops-api"
urlpatterns = [
    path("metrics/summary/", SummaryViews.as_view({"get": "retrieve"}), name="metrics-summary"),
    *router.urls,
]
