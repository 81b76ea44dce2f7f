"""People and roles in the admin.

Guarantees: only permissions of our own tables can be handed out; those of django-q2's tables would be code execution. A
person's rights come from roles (groups), not from single permissions. Does not: check rights; each view does.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField
from django.forms import CheckboxSelectMultiple, ModelMultipleChoiceField
from django.http import HttpRequest

GRANTABLE = ("access", "auth", "ops", "reconciliation", "remote", "rollback", "sync")

admin.site.unregister([User, Group])


@admin.register(User)
class PersonAdmin(UserAdmin):
    """A person: name, rights by roles, and when they were last here."""

    list_display = ("username", "email", "first_name", "last_name", "is_staff", "is_active", "last_login")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        """Offer roles as check boxes: they are few, and work on a phone."""
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple(), **kwargs)


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """A role: a named set of permissions on our own tables."""

    filter_horizontal = ()

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest | None = None, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        """Offer the permissions that may be handed out, as check boxes."""
        kwargs["queryset"] = (
            Permission.objects.filter(content_type__app_label__in=GRANTABLE)
            .exclude(content_type__model__startswith="historical")
            .select_related("content_type")
            .order_by("content_type__app_label", "content_type__model", "codename")
        )
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple(), **kwargs)
