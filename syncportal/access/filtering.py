"""Filters of lists, strict: an unknown parameter or a bad value is a 400 that names it, never a silent "all"."""

from typing import Any

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from syncportal.access.paging import CURSOR_PARAM, SIZE_PARAM
from syncportal.access.problems import FieldProblem, invalid_query


class StrictFilters(DjangoFilterBackend):
    """Applies the view's `filterset_class`; `extra_parameters` of the view are the ones it reads itself."""

    def filter_queryset(self, request: Request, queryset: QuerySet, view: Any) -> QuerySet:
        """Return the filtered queryset; raises Problem 400."""
        filterset_class = self.get_filterset_class(view, queryset)
        filters = filterset_class.base_filters if filterset_class else {}
        known = {*filters, CURSOR_PARAM, SIZE_PARAM, *getattr(view, "extra_parameters", ())}
        unknown = [
            FieldProblem("", "unknown_parameter", f"There is no parameter {name!r} here.", parameter=name)
            for name in request.query_params
            if name not in known
        ]
        if unknown:
            raise invalid_query(unknown)
        if filterset_class is None:
            return queryset
        filterset = filterset_class(data=request.query_params, queryset=queryset, request=request)
        if not filterset.is_valid():
            raise invalid_query(_problems(filterset.errors.get_json_data()))
        return filterset.qs


def _problems(errors: dict[str, list[dict[str, Any]]]) -> list[FieldProblem]:
    return [
        FieldProblem("", str(error["code"] or "invalid"), str(error["message"]), parameter=name)
        for name, found in errors.items()
        for error in found
    ]
