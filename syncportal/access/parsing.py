"""Bodies as the API takes them: strict JSON objects of at most 1 MiB.

What passes can be stored in either database and written back unchanged; what does not is answered 400 or 413 with a
stable code, before anything else looks at it.
"""

from collections.abc import Mapping
from typing import IO, Any, Final

from rest_framework.parsers import BaseParser

from syncportal.access.problems import Problem
from syncportal.kernel import strict_json

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_BODY_DEPTH: Final = 32


class StrictJsonParser(BaseParser):
    """Parses `application/json` into a dict."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the object in the body, {} for an empty one; raises Problem."""
        text = stream.read(MAX_BODY_BYTES + 1)
        if len(text) > MAX_BODY_BYTES:
            raise Problem(413, "body_too_large", f"A body may have at most {MAX_BODY_BYTES:,} bytes.")
        if not text.strip():
            return {}
        try:
            value = strict_json.loads(text, max_bytes=MAX_BODY_BYTES, max_depth=MAX_BODY_DEPTH)
        except strict_json.StrictJsonError as error:
            raise Problem(400, f"json_{error.code}", f"The body cannot be accepted: {error.message}.") from None
        if not isinstance(value, dict):
            raise Problem(400, "json_not_an_object", "The body must be a JSON object.")
        return value


class MergePatchParser(StrictJsonParser):
    """Parses `application/merge-patch+json` the same way."""

    media_type = "application/merge-patch+json"
