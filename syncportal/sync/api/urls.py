"""Addresses under `/api/v1/` that belong to records."""

from rest_framework.routers import SimpleRouter

from syncportal.sync.api.bulk_operations import BulkOperationViews
from syncportal.sync.api.conflicts import ConflictViews
from syncportal.sync.api.error_groups import ErrorGroupViews
from syncportal.sync.api.history import EventViews, SyncLogViews
from syncportal.sync.api.records import RecordViews
from syncportal.sync.api.resources import ResourceViews

router = SimpleRouter()
router.register("resources", ResourceViews, basename="resource")
router.register("records", RecordViews, basename="record")
router.register("conflicts", ConflictViews, basename="conflict")
router.register("error-groups", ErrorGroupViews, basename="error-group")
router.register("bulk-operations", BulkOperationViews, basename="bulk-operation")
router.register("sync-logs", SyncLogViews, basename="sync-log")
router.register("events", EventViews, basename="event")

app_name = "api"
urlpatterns = router.urls
