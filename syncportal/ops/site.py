"""The admin site that is the product's shell."""

from django.contrib.admin import AdminSite


class SyncPortalAdminSite(AdminSite):
    """SyncPortal's admin."""

    site_header = "SyncPortal"
    site_title = "SyncPortal"
    index_title = "Start"
