"""Registers the pages about connections with the admin.

They stand here and not in remote/ because they also pause, pull and show records, which remote/ knows nothing of.
"""

from django.contrib import admin

from syncportal.ops.screens.remote_pages import RemoteAdmin
from syncportal.ops.screens.resource_pages import ResourceAdmin
from syncportal.remote.models import Remote, Resource

admin.site.register(Remote, RemoteAdmin)
admin.site.register(Resource, ResourceAdmin)
