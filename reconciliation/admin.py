"""Registers the pages about reconciliation with the admin; the pages themselves stand in screens/."""

from django.contrib import admin

from reconciliation.models import Discrepancy, Run
from reconciliation.screens.discrepancy_list import DiscrepancyAdmin
from reconciliation.screens.run_list import RunAdmin

admin.site.register(Run, RunAdmin)
admin.site.register(Discrepancy, DiscrepancyAdmin)
