"""Resources over HTTP: what there is, what its objects look like, and whether its remote can be reached."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.problems import Problem
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.models import Resource
from syncportal.sync.api.shapes import ResourceShape


class ResourceViews(ApiViews):
    """The rows of the contract under `/resources/`."""

    queryset = Resource.objects.select_related("remote")
    serializer_class = ResourceShape
    lookup_field = "slug"
    lookup_value_regex = "[a-z0-9_-]{1,64}"

    def get_serializer_context(self) -> dict[str, Any]:
        """Add which remotes are blocked, read once an answer."""
        return {**super().get_serializer_context(), "blocked": limits.blocked(db_now())}

    @extend_schema(summary="Resources")
    def list(self, request: Request) -> Response:
        """Return a page of the resources, the newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(summary="One resource", responses=ResourceShape)
    def retrieve(self, request: Request, slug: str) -> Response:
        """Return one resource with its JSON Schema, guarantees and breaker state."""
        resource = self.get_queryset().filter(slug=slug).first()
        if resource is None:
            raise Problem(404, "not_found", "There is no such resource.")
        return Response(self.get_serializer(resource).data)
