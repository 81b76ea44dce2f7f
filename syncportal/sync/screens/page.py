"""What every page of ours shares: the shell around it, who acts, the way back to a list.

Owns: rendering inside the admin, `actor_of`, safe return addresses. Does not: check permissions.
"""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse

from syncportal.sync.events import Actor
from syncportal.sync.querysets import Person

LONGEST_QUERY = 2000


def render(
    request: HttpRequest, template: str, *, title: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Answer with a page inside the admin's shell."""
    everything = {**admin.site.each_context(request), "title": title, **context}
    return TemplateResponse(request, template, everything, status=status)


def fragment(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Answer with a piece of a page; never cached."""
    response = TemplateResponse(request, template, context)
    response["Cache-Control"] = "no-store"
    return response


def actor_of(user: Person) -> Actor:
    """Return the person as the history names them."""
    return Actor("user", user.pk, user.get_username())


def list_query(request: HttpRequest) -> str:
    """Return the query string of the list the person came from, cleaned; "" when there is none."""
    given = request.POST.get("back") or request.GET.get("back") or ""
    return QueryDict(given[:LONGEST_QUERY]).urlencode()


def to_list(url_name: str, query: str = "") -> HttpResponse:
    """Send the person to a list with its filters and page."""
    path = reverse(url_name)
    return HttpResponseRedirect(f"{path}?{query}" if query else path)


def with_back(path: str, query: str) -> str:
    """Return an address that remembers the list the person came from."""
    return f"{path}?{urlencode({'back': query})}" if query else path
