"""Who is calling: an API key in `Authorization: Bearer`, else the session (which then needs its CSRF token)."""

from axes.helpers import get_client_ip_address
from django.contrib.auth.models import User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from syncportal.access.keys import KeyRefused, check_key
from syncportal.access.models import ApiKey
from syncportal.access.problems import Problem
from syncportal.access.throttle import wait_s
from syncportal.kernel.clock import db_now

SCHEME = "Bearer"


class BearerKey(BaseAuthentication):
    """Sets `request.user` to the key's person and `request.auth` to the ApiKey row."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """Return the caller, None without a Bearer header; raises AuthenticationFailed for a key that is refused.

        Raises a 429 Problem when too many wrong keys came from the caller's address.
        """
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != SCHEME.lower().encode():
            return None
        if len(parts) != 2:
            raise AuthenticationFailed("Write the header as: Authorization: Bearer KEY", code="invalid_key")
        now = db_now()
        try:
            row = check_key(parts[1].decode("latin-1"), now=now)
        except KeyRefused as refusal:
            wait = wait_s(get_client_ip_address(request._request), now=now)
            if wait:
                raise _too_many(wait) from None
            raise AuthenticationFailed(str(refusal), code="invalid_key") from None
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 answer puts into WWW-Authenticate."""
        return f'{SCHEME} realm="SyncPortal"'


def _too_many(wait: int) -> Problem:
    detail = f"Too many wrong API keys came from this address. Correct the key and try again in {wait} seconds."
    return Problem(429, "too_many_wrong_keys", detail, headers={"Retry-After": str(wait)})


class BearerKeyInSchema(OpenApiAuthenticationExtension):
    """Describes the key in the OpenAPI document."""

    target_class = "syncportal.access.authentication.BearerKey"
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        """Return the security scheme."""
        text = "Made by `manage.py create_api_key`; scopes read, write, operate."
        return {"type": "http", "scheme": "bearer", "description": text}
