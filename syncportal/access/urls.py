"""Addresses of the API's description, and the answer to every other address under /api/ (include it last)."""

from django.urls import path, re_path

from syncportal.access.openapi import DocsView, SchemaView
from syncportal.access.problems import unknown_address

urlpatterns = [
    path("schema/", SchemaView.as_view(), name="api-schema"),
    path("docs/", DocsView.as_view(), name="api-docs"),
    re_path(r"", unknown_address, name="api-unknown"),
]
