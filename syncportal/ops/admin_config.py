"""Tells Django to use SyncPortal's own admin site."""

from django.contrib.admin.apps import AdminConfig


class SyncPortalAdminConfig(AdminConfig):
    """Django's admin with our site as the default one, so `admin.site` and `@admin.register` mean ours."""

    default_site = "syncportal.ops.site.SyncPortalAdminSite"
