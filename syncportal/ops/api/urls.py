"""Addresses under `/api/v1/` that belong to operation."""

from django.urls import path

from syncportal.ops.api.summary import SummaryViews

app_name = "ops-api"
urlpatterns = [path("metrics/summary/", SummaryViews.as_view({"get": "retrieve"}), name="metrics-summary")]
