"""Where requests go: base URL, path templates with encoded id parts, query parameters.

Owns: `PathTemplate`, `joined`. Guarantees: an id part is percent-encoded whole, so a slash, quote, space or a literal
`%3A` in it stays part of the id; a part that would change the path (empty, `.`, `..`) is refused. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

_PLACE = re.compile(r"('?)\{(\d)\}('?)")
_PATH_SAFE = "/:?#[]@!$&'()*+,;=%~-._"


class BadId(ValueError):
    """The id cannot be part of a URL."""


class PathTemplate:
    """A path with `{0}`, `{1}` for the parts of an id, compiled; `'{0}'` doubles quotes inside the part (OData)."""

    __slots__ = ("_pieces", "_pattern", "places")

    def __init__(self, text: str) -> None:
        """Split the template into literals and places."""
        self._pieces: list[str | tuple[int, bool]] = []
        end = 0
        for match in _PLACE.finditer(text):
            quoted = match.group(1) == "'" and match.group(3) == "'"
            self._pieces.append(quote(text[end : match.start()] + match.group(1), safe=_PATH_SAFE))
            self._pieces.append((int(match.group(2)), quoted))
            end = match.end() - len(match.group(3))
        self._pieces.append(quote(text[end:], safe=_PATH_SAFE))
        self.places = frozenset(piece[0] for piece in self._pieces if isinstance(piece, tuple))

        self._pattern: re.Pattern[str] | None = None

    def parts_of(self, path: str) -> dict[int, str] | None:
        """Return the id parts in the end of a path that this template made, None when it did not."""
        if self._pattern is None:
            seen: set[int] = set()
            text = ""
            for piece in self._pieces:
                if isinstance(piece, str):
                    text += re.escape(piece.partition("?")[0])
                elif piece[0] not in seen:
                    seen.add(piece[0])
                    text += f"(?P<p{piece[0]}>[^/?#]+)"
            self._pattern = re.compile(text + r"/?\Z")
        match = self._pattern.search(path)
        if match is None or not self.places:
            return None
        return {int(name[1:]): unquote(value) for name, value in match.groupdict().items()}

    def fill(self, parts: Sequence[str]) -> str:
        """Return the path for an id; raises BadId."""
        return "".join(
            piece if isinstance(piece, str) else _encoded(parts[piece[0]], doubled=piece[1]) for piece in self._pieces
        )


def _encoded(part: str, *, doubled: bool) -> str:
    if part in ("", ".", ".."):
        raise BadId(f"the id part {part!r} cannot be addressed")
    try:
        return quote(part.replace("'", "''") if doubled else part, safe="")
    except UnicodeEncodeError as problem:
        raise BadId("the id holds characters that cannot be sent") from problem


def joined(base_url: str, path: str, params: Mapping[str, Any] | None = None) -> str:
    """Return the URL of `path` below the base (an absolute URL stays), with parameters added to its query."""
    url = path if "://" in path.partition("?")[0] else base_url.rstrip("/") + ("/" + path.lstrip("/") if path else "")
    query = query_text(params or {})
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def query_text(params: Mapping[str, Any]) -> str:
    """Return parameters as a query string: lists repeat, booleans are words, null is left out."""
    pairs = [
        (name, _word(value))
        for name, given in params.items()
        for value in (given if isinstance(given, (list, tuple)) else (given,))
        if value is not None
    ]
    return urlencode(pairs, quote_via=quote, safe="")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
