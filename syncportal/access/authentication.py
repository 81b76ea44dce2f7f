"""Who is calling: an API key in `Authorization: Bearer`, else the session (which then needs its CSRF token)."""

from django.contrib.auth.models import User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from syncportal.access.keys import KeyRefused, check_key
from syncportal.access.models import ApiKey
from syncportal.kernel.clock import db_now

SCHEME = "Bearer"


class BearerKey(BaseAuthentication):
    """Sets `request.user` to the key's person and `request.auth` to the ApiKey row."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """Return the caller, None without a Bearer header; raises AuthenticationFailed for a key that is refused."""
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != SCHEME.lower().encode():
            return None
        if len(parts) != 2:
            raise AuthenticationFailed("Write the header as: Authorization: Bearer KEY", code="invalid_key")
        try:
            row = check_key(parts[1].decode("latin-1"), now=db_now())
        except KeyRefused as refusal:
            raise AuthenticationFailed(str(refusal), code="invalid_key") from None
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 answer puts into WWW-Authenticate."""
        return f'{SCHEME} realm="SyncPortal"'


class BearerKeyInSchema(OpenApiAuthenticationExtension):
    """Describes the key in the OpenAPI document."""

    target_class = "syncportal.access.authentication.BearerKey"
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        """Return the security scheme."""
        text = "Made by `manage.py create_api_key`; scopes read, write, operate."
        return {"type": "http", "scheme": "bearer", "description": text}
