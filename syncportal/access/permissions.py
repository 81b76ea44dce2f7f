"""What a caller may do at all, before any object is looked at.

A key needs the scope of the act: `read` for safe methods, `write` for the others, or one of those that the view names
in `scopes[action]`. A session stands for the person, so it has every scope. What a person may do to which record is
decided where the record is known.
"""

from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from syncportal.access.keys import Scope
from syncportal.access.models import ApiKey
from syncportal.access.problems import Problem


def has_scope(request: Request, scope: Scope) -> bool:
    """Tell whether the caller's key covers `scope`; sessions cover all."""
    return not isinstance(request.auth, ApiKey) or scope.value in request.auth.scopes


def require_scope(request: Request, *scopes: Scope) -> None:
    """Raise the 403 that names the missing scope unless the caller's key covers one of them."""
    if not any(has_scope(request, scope) for scope in scopes):
        needed = scopes[0].value
        raise Problem(403, "scope_missing", f"This API key lacks the scope {needed!r}.", requiredScope=needed)


class ScopePermission(BasePermission):
    """Lets signed-in callers through whose key has the scope that the method needs."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller is known; raises the 403 for a missing scope."""
        if not request.user or not request.user.is_authenticated:
            return False
        usual = (Scope.READ if request.method in SAFE_METHODS else Scope.WRITE,)
        require_scope(request, *getattr(view, "scopes", {}).get(getattr(view, "action", None), usual))
        return True


class SignedInOrDebug(BasePermission):
    """Lets everybody see the API's description while DEBUG is on, else only people who are signed in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller may read the description."""
        return settings.DEBUG or bool(request.user and request.user.is_authenticated)
