"""Registers the pages about connections, keys, workers, errors and alerts with the admin.

They stand here and not in remote/ and access/ because they also pause, pull, show records and write history, of which
those know nothing.
"""

from django.contrib import admin

from syncportal.access.models import ApiKey
from syncportal.ops.alerts.models import Alert, AlertRule, Channel, Delivery, Silence
from syncportal.ops.models import Duty, Heartbeat
from syncportal.ops.screens.alert_list import AlertAdmin
from syncportal.ops.screens.channel_pages import ChannelAdmin
from syncportal.ops.screens.delivery_list import DeliveryAdmin
from syncportal.ops.screens.error_list import ErrorGroupAdmin
from syncportal.ops.screens.key_pages import KeyAdmin
from syncportal.ops.screens.remote_pages import RemoteAdmin
from syncportal.ops.screens.resource_pages import ResourceAdmin
from syncportal.ops.screens.rule_pages import RuleAdmin
from syncportal.ops.screens.silence_page import SilenceAdmin
from syncportal.ops.screens.timetable_page import DutyAdmin
from syncportal.ops.screens.worker_page import WorkerAdmin
from syncportal.remote.models import Remote, Resource
from syncportal.sync.error_models import ErrorGroup

admin.site.register(ApiKey, KeyAdmin)
admin.site.register(Duty, DutyAdmin)
admin.site.register(Heartbeat, WorkerAdmin)
admin.site.register(ErrorGroup, ErrorGroupAdmin)
admin.site.register(Remote, RemoteAdmin)
admin.site.register(Resource, ResourceAdmin)
admin.site.register(Alert, AlertAdmin)
admin.site.register(Delivery, DeliveryAdmin)
admin.site.register(AlertRule, RuleAdmin)
admin.site.register(Channel, ChannelAdmin)
admin.site.register(Silence, SilenceAdmin)
