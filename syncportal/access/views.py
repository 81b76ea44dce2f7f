"""What every view set of the API is built on."""

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response


class ApiViews(viewsets.GenericViewSet):
    """A view set whose answers are never stored by browsers and proxies: they are for one person, at one moment."""

    http_method_names = ["get", "head", "post", "patch", "delete"]

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add the header to every answer, errors included."""
        response.headers["Cache-Control"] = "no-store"
        return super().finalize_response(request, response, *args, **kwargs)
