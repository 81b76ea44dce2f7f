"""Errors of the API: one shape for all of them, RFC 9457 `application/problem+json`.

Owns: `Problem`, which views raise, the exception handler, and the same answer for requests that never reach a view.
Guarantees: never HTML, never a stack trace, always a stable `code` and the request id; a failure of ours is logged
with its cause and answered without it. Does not: decide what is an error.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from syncportal.kernel import pointer, strict_json
from syncportal.kernel.middleware import request_id
from syncportal.kernel.tx import worth_repeating

CONTENT_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

_CODES = {
    400: "bad_request", 401: "not_authenticated", 403: "permission_denied", 404: "not_found",
    405: "method_not_allowed", 406: "not_acceptable", 413: "body_too_large", 415: "unsupported_media_type",
    429: "throttled", 500: "server_error", 503: "unavailable",
}  # fmt: skip
_DETAILS = {
    404: "There is no such object, or you may not see it.",
    403: "You may not do this.",
    500: "Something failed here. The log has the details under this request id.",
}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with a request: a JSON Pointer into the body, or the name of a query parameter."""

    pointer: str
    code: str
    detail: str
    parameter: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the member of `errors`."""
        shown = {"pointer": self.pointer, "code": self.code, "detail": self.detail}
        return shown | ({"parameter": self.parameter} if self.parameter else {})


class Problem(exceptions.APIException):
    """An answer other than success. Further keyword arguments become members of the document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.code = code
        self.text = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.members = members


def invalid_body(errors: Sequence[FieldProblem]) -> Problem:
    """Return the 422 for a body that can be read but not accepted."""
    return Problem(422, "invalid", "The request's values do not fit; see errors.", errors=errors)


def invalid_query(errors: Sequence[FieldProblem]) -> Problem:
    """Return the 400 for query parameters that are unknown or have a bad value."""
    return Problem(400, "invalid_query", "The address's parameters do not fit; see errors.", errors=errors)


def document(request: HttpRequest, problem: Problem) -> dict[str, Any]:
    """Return the problem document of one request."""
    shown: dict[str, Any] = {
        "type": f"urn:syncportal:problem:{problem.code}",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.text,
        "code": problem.code,
        "requestId": request_id(request),
    }
    if problem.errors:
        shown["errors"] = [error.as_json() for error in problem.errors]
    return shown | problem.members


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response:
    """Answer any exception of a view (REST framework's EXCEPTION_HANDLER)."""
    request = context["request"]
    problem = _problem_of(exception)
    if problem.status_code == 500:
        _log.error("api request failed", exc_info=exception, extra={"request_id": request_id(request)})
        got_request_exception.send(sender=None, request=request._request)
    request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return Response(
        document(request, problem), status=problem.status_code, headers=problem.headers, content_type=CONTENT_TYPE
    )


def plain_answer(request: HttpRequest, status: int, detail: str = "", *, code: str = "") -> HttpResponse:
    """Answer outside of any API view: unknown addresses, and what Django itself refuses under /api/."""
    problem = Problem(status, code or _CODES.get(status, "error"), detail or _detail_of(status))
    return HttpResponse(
        strict_json.dumps(document(request, problem)),
        status=status,
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store"},
    )


def unknown_address(request: HttpRequest, **parts: Any) -> HttpResponse:
    """Answer an address under /api/ that nothing stands behind."""
    hint = "" if request.path.endswith("/") else " Addresses of this API end with a slash."
    return plain_answer(request, 404, f"There is nothing at this address.{hint}")


def _detail_of(status: int) -> str:
    return _DETAILS.get(status, f"{HTTPStatus(status).phrase}.")


def _problem_of(exception: Exception) -> Problem:
    match exception:
        case Problem():
            return exception
        case exceptions.ValidationError():
            return invalid_body(list(_field_problems(exception.detail, exception.get_codes(), ())))
        case exceptions.APIException():
            return _from_framework(exception)
        case Http404():
            return Problem(404, _CODES[404], _DETAILS[404])
        case PermissionDenied():
            return Problem(403, _CODES[403], _DETAILS[403])
        case RequestDataTooBig():
            return Problem(413, _CODES[413], "The request's body is too large.")
        case SuspiciousOperation() | MultiPartParserError():
            return Problem(400, _CODES[400], "The request cannot be read.")
        case OperationalError() if worth_repeating(exception):
            return Problem(503, "database_busy", "The database is busy; nothing was changed. Ask again.",
                           headers={"Retry-After": "1"})  # fmt: skip
    return Problem(500, _CODES[500], _DETAILS[500])


def _from_framework(exception: exceptions.APIException) -> Problem:
    status = exception.status_code
    code = str(getattr(exception.detail, "code", "") or _CODES.get(status, "error"))
    headers = {}
    challenge, wait = getattr(exception, "auth_header", None), getattr(exception, "wait", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    if wait:
        headers["Retry-After"] = str(int(wait) + 1)
    detail = _DETAILS[404] if status == 404 else str(exception.detail)
    return Problem(status, code, detail, headers=headers)


def _field_problems(detail: Any, codes: Any, path: tuple[str, ...]) -> Iterator[FieldProblem]:
    """Flatten the framework's nested error lists into pointers."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            below = path if name == "non_field_errors" else (*path, str(name))
            yield from _field_problems(inner, codes[name], below)
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            nested = isinstance(inner, (Mapping, list))
            yield from _field_problems(inner, codes[position], (*path, str(position)) if nested else path)
    else:
        yield FieldProblem(pointer.build(path), str(codes), str(detail))
