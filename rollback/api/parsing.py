"""The body of a grouped update: strict JSON like everywhere, but whatever is wrong with it is a 422 with a pointer."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.parsers import BaseParser

from syncportal.access.parsing import MAX_BODY_BYTES, MAX_BODY_DEPTH
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.kernel import strict_json


class GroupedBodyParser(BaseParser):
    """Parses `application/json` into any JSON value; `plan.read` says what is wrong with it."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the value in the body, {} for an empty one; raises Problem 413 or 422."""
        text = stream.read(MAX_BODY_BYTES + 1)
        if len(text) > MAX_BODY_BYTES:
            raise Problem(413, "body_too_large", f"A body may have at most {MAX_BODY_BYTES:,} bytes.")
        if not text.strip():
            return {}
        try:
            return strict_json.loads(text, max_bytes=MAX_BODY_BYTES, max_depth=MAX_BODY_DEPTH)
        except strict_json.StrictJsonError as error:
            detail = f"The body cannot be accepted: {error.message}."
            raise invalid_body([FieldProblem("", f"json_{error.code}", detail)]) from None
