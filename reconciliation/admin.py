"""Registers the pages about reconciliation with the admin; the pages themselves stand in screens/."""

from django.contrib import admin

from reconciliation.models import Discrepancy, Run
from reconciliation.screens.discrepancy_list import DiscrepancyAdmin
from reconciliation.screens.run_list import RunAdmin
from reconciliation.screens.selection import COMPARE_ONE, compare
from syncportal.sync.screens import record_list, record_parts

admin.site.register(Run, RunAdmin)
admin.site.register(Discrepancy, DiscrepancyAdmin)
record_list.offer_to_operations(compare)
record_parts.offer_to_operations(COMPARE_ONE)
