"""The API's own description: OpenAPI 3.1 and Swagger UI, both from this machine only.

Guarantees: every operation says that errors are problem documents; both pages need a login or a key unless DEBUG is on.
"""

from typing import Any, Final

from django.contrib.auth.views import redirect_to_login
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.exceptions import NotAuthenticated
from rest_framework.renderers import JSONRenderer

from syncportal.access.idempotency import HEADER
from syncportal.access.permissions import SignedInOrDebug
from syncportal.access.problems import CONTENT_TYPE

_FIELD_PROBLEM: Final = {
    "type": "object",
    "required": ["pointer", "code", "detail"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON Pointer into the request's body; empty for the whole."},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "parameter": {"type": "string", "description": "The query parameter, when the address is at fault."},
    },
}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457. Some codes add members, such as the fresh values of a conflict.",
    "required": ["type", "title", "status", "detail", "code", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable; decide by this one."},
        "requestId": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldProblem"}},
    },
    "additionalProperties": True,
}
_ALWAYS: Final = {
    "400": "The address or the body cannot be read.",
    "401": "No key or session, or one that is refused.",
    "403": "Signed in, but not allowed.",
    "429": "Too many wrong keys came from this address; `Retry-After` says when it is heard again.",
}
_WITH_BODY: Final = {
    "413": "The body is larger than 1 MiB.",
    "415": "The body is not JSON.",
    "422": "The body can be read but not accepted; `errors` says where.",
}
_METHODS: Final = ("get", "post", "patch", "put", "delete")


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Describe the error answers and the Idempotency-Key header of every operation (a spectacular hook)."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["FieldProblem"], schemas["Problem"] = _FIELD_PROBLEM, _PROBLEM
    key = {"name": HEADER, "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255},
           "description": "Same key and body: one effect, and the stored answer again for seven days."}  # fmt: skip
    for path, operations in result["paths"].items():
        for method in _METHODS:
            operation = operations.get(method)
            if operation is None:
                continue
            wanted = _ALWAYS | ({"404": "No such object, or not yours."} if "{" in path else {})
            if method in ("post", "patch"):
                wanted |= _WITH_BODY
            if method == "post":
                operation.setdefault("parameters", []).append(key)
                wanted["409"] = "The object's state does not allow it now, or the same request is still running."
            for status, text in {**wanted, "default": "Any other failure."}.items():
                operation["responses"].setdefault(status, _answer(text))
    return result


def _answer(text: str) -> dict[str, Any]:
    return {"description": text, "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


@extend_schema(exclude=True)
class SchemaView(SpectacularAPIView):
    """The OpenAPI document, as YAML or JSON."""

    permission_classes = [SignedInOrDebug]
    renderer_classes = [*SpectacularAPIView.renderer_classes, JSONRenderer]


class DocsView(SpectacularSwaggerSplitView):
    """Swagger UI under the strict CSP: no inline script or style, nothing from elsewhere."""

    permission_classes = [SignedInOrDebug]
    url_name = "api-schema"
    template_name = "api/docs.html"

    def handle_exception(self, exc: Exception) -> Any:
        """Send people who are not signed in to the login page."""
        if isinstance(exc, NotAuthenticated):
            return redirect_to_login(self.request.get_full_path(), login_url=reverse("admin:login"))
        return super().handle_exception(exc)
