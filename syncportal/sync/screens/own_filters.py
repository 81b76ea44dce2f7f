"""What an address selects in a list goes through the list's own filters, never through a field by its name."""

from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest


class OwnFilters(ModelAdmin):
    """A list without Django's `?field__lookup=value`; such an address leads to the list without it."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Tell whether a filter of the list has this parameter; raises IncorrectLookupParameters when none has."""
        filters: Any = self.list_filter
        if lookup not in {one.parameter_name for one in filters}:
            raise IncorrectLookupParameters(lookup)
        return True
