"""People and roles in the admin.

Guarantees: only permissions that some page asks for can be handed out; those of django-q2's tables would be code
execution. A person's rights come from roles (groups), not from single permissions. Does not: check rights; each view
does.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField, QuerySet
from django.forms import CheckboxSelectMultiple, ModelMultipleChoiceField
from django.http import HttpRequest

from syncportal.access.roles import GRANTABLE, permissions_named

admin.site.unregister([User, Group])


@admin.register(User)
class PersonAdmin(UserAdmin):
    """A person: name, rights by roles, and when they were last here."""

    list_display = ("username", "email", "roles", "is_superuser", "is_active", "last_login")
    list_filter = ("groups", "is_superuser", "is_active")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Read everybody's roles with one query."""
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description="Roles")
    def roles(self, row: User) -> str:
        """Name the roles, from which the rights come."""
        return ", ".join(sorted(role.name for role in row.groups.all())) or "–"

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        """Offer roles as check boxes: they are few, and work on a phone."""
        kwargs |= {"label": "Roles", "help_text": "Each role gives its permissions; a person may have several."}
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple(), **kwargs)


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """A role: a named set of permissions on our own tables."""

    filter_horizontal = ()

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest | None = None, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        """Offer the permissions that any page asks for, as check boxes."""
        kwargs["queryset"] = (
            Permission.objects.filter(pk__in=[row.pk for row in permissions_named(GRANTABLE)])
            .select_related("content_type")
            .order_by("content_type__app_label", "content_type__model", "codename")
        )
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple(), **kwargs)
