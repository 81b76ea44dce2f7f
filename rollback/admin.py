"""Registers the pages about grouped updates with the admin; the pages themselves stand in screens/."""

from django.contrib import admin

from rollback.models import CompensatingTask, Group
from rollback.screens.group_list import GroupAdmin
from rollback.screens.task_list import TaskAdmin

admin.site.register(Group, GroupAdmin)
admin.site.register(CompensatingTask, TaskAdmin)
