"""What filters of lists over a column of fixed choices share."""

from collections.abc import Iterable

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest


class ChoiceFilter(admin.SimpleListFilter):
    """Rows by one column, which is named like the parameter unless it says otherwise.

    A value that nobody offers selects nothing special.
    """

    offered: type[models.TextChoices]
    column = ""

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Iterable[tuple[str, str]]:
        """Offer every choice."""
        return [(str(value), str(label)) for value, label in self.offered.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with the chosen value."""
        if self.value() not in self.offered.values:
            return queryset
        return queryset.filter(**{self.column or str(self.parameter_name): self.value()})
