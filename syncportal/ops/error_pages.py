"""Pages for what went wrong: 400, 403, 404, 500 and a failed CSRF check, in the product's theme.

Guarantees: no page needs the database or a signed-in user, none shows a stack trace or the text of an exception; each
names the request id that the log carries; what was asked under /api/ is answered as a problem document.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from syncportal.access.problems import plain_answer
from syncportal.kernel.middleware import request_id


def _page(request: HttpRequest, template: str, *, status: int) -> HttpResponse:
    if request.path.startswith("/api/"):
        return plain_answer(request, status)
    return render(request, template, {"request_id": request_id(request)}, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that cannot be read."""
    return _page(request, "400.html", status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that the person may not make."""
    return _page(request, "403.html", status=403)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request for something that does not exist, or that the person may not know of."""
    return _page(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a request that failed because of us."""
    return _page(request, "500.html", status=500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose CSRF token is missing or old; `reason` is for the log only."""
    return _page(request, "403_csrf.html", status=403)
