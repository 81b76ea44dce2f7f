"""Addresses under `/api/v1/` that belong to grouped updates."""

from rest_framework.routers import SimpleRouter

from rollback.api.views import CompensatingTaskViews, GroupedUpdateViews

router = SimpleRouter()
router.register("grouped-updates", GroupedUpdateViews, basename="grouped-update")
router.register("compensating-tasks", CompensatingTaskViews, basename="compensating-task")

app_name = "grouped"
urlpatterns = router.urls
