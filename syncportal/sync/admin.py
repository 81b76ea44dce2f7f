"""Registers the record pages with the admin; the pages themselves stand in screens/."""

from django.contrib import admin

from syncportal.bulk.models import BulkOperation
from syncportal.sync.models import Conflict, Event, Record, SyncLog
from syncportal.sync.screens.bulk_list import BulkOperationAdmin
from syncportal.sync.screens.conflict_list import ConflictAdmin
from syncportal.sync.screens.history_lists import EventAdmin, SyncLogAdmin
from syncportal.sync.screens.record_list import RecordAdmin

admin.site.register(Record, RecordAdmin)
admin.site.register(Conflict, ConflictAdmin)
admin.site.register(SyncLog, SyncLogAdmin)
admin.site.register(Event, EventAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
