"""What a collection of the demo master can do: one frozen description per collection.

Owns: the capability options and their legal values, and the two standard collections.
Guarantees: an unknown option or value is refused with a message that names it.
Does not: hold rows (`store`) or speak HTTP (`api`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from syncportal.demo.seed import ACCOUNT_SCHEMA, SHIFT_SCHEMA, account_rows, shift_rows

Document = dict[str, Any]

CHOICES: dict[str, tuple[str, ...]] = {
    "version": ("body", "etag", "none"),
    "version_style": ("integer", "timestamp", "second", "opaque"),
    "etag": ("version", "digest", "none"),
    "precondition": ("if_match", "if_unmodified_since", "body", "query", "ignored"),
    "create": ("server", "client", "both", "no"),
    "paging": ("none", "offset", "page", "cursor", "last_id", "link", "next_url", "header_url", "header_params"),
    "order": ("id", "hashed", "unstable"),
    "next_form": ("absolute", "host", "request", "base"),
    "write_answer": ("object", "empty", "stub"),
    "encoding": ("json", "form"),
    "error_body": ("json", "xml", "text", "empty"),
    "checksum_in": ("body", "header"),
    "spelling": ("plain", "loose"),
}


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Describe one collection; the defaults are a well-behaved server with integer versions.

    `methods` maps an update verb to its semantics, e.g. {"PUT": "replace", "PATCH": "merge"}.
    `next_form` is how next links are written: absolute, from the host's root, relative to the request, or to `/api/`.
    `window` = (field, first, last): the list shows only dates between the parameters `first` and `last`; it wants both.
    `tombstone` = (field, value) keeps deleted objects readable with that field set; `gone_status` answers otherwise.
    """

    name: str
    rows: tuple[Document, ...] = ()
    id_fields: tuple[str, ...] = ("id",)
    id_prefix: str = "NEW-"
    schema: Mapping[str, Any] = field(default_factory=dict)
    version: str = "body"
    version_field: str = "version"
    version_style: str = "integer"
    etag: str = "version"
    no_change_bumps: bool = True
    precondition: str = "if_match"
    precondition_param: str = "version"
    require_precondition: bool = False
    conflict_status: int = 412
    methods: Mapping[str, str] = field(default_factory=lambda: {"PUT": "replace", "PATCH": "merge"})
    null_removes: bool = True
    create: str = "both"
    upsert: bool = False
    unique: tuple[str, ...] = ()
    idempotency_header: str = ""
    lookup: tuple[str, ...] = ()
    paging: str = "offset"
    offset_start: int = 0
    size_param: str = "limit"
    page_size: int = 50
    max_page_size: int = 1000
    items_key: str = "items"
    row_key: str = ""
    stub_rows: bool = False
    next_form: str = "absolute"
    order: str = "id"
    window: tuple[str, str, str] | None = None
    tombstone: tuple[str, Any] | None = None
    list_tombstones: bool = False
    gone_status: int = 404
    wrap: str = ""
    checksum_fields: tuple[str, ...] = ()
    checksum_in: str = "body"
    refuse_read_only: bool = False
    write_answer: str = "object"
    encoding: str = "json"
    media_type: str = "application/json"
    error_body: str = "json"
    spelling: str = "plain"

    def __post_init__(self) -> None:
        for option, legal in CHOICES.items():
            if getattr(self, option) not in legal:
                raise ValueError(f"collection {self.name!r}: {option} must be one of {', '.join(legal)}")
        if not self.name or "/" in self.name:
            raise ValueError("a collection needs a name without a slash")

    @property
    def read_only(self) -> frozenset[str]:
        """Name the fields that only the server writes."""
        own = {"updated_at"}
        if self.version == "body":
            own.add(self.version_field)
        if self.checksum_fields and self.checksum_in == "body":
            own.add("checksum")
        return frozenset(own)

    def having(self, **options: Any) -> "Collection":
        """Return a copy with other options."""
        return dataclasses.replace(self, **options)


def accounts(count: int = 30, **options: Any) -> Collection:
    """Make the standard accounts: whole-object PUT, integer version in the body, If-Match, offset paging."""
    base = Collection(
        name="accounts",
        rows=tuple(account_rows(count)),
        id_prefix="ACC-",
        schema=ACCOUNT_SCHEMA,
        methods={"PUT": "replace"},
        idempotency_header="Idempotency-Key",
        lookup=("email", "name"),
    )
    return base.having(**options)


def shifts(count: int = 30, **options: Any) -> Collection:
    """Make the standard shifts: merging PATCH, integer version in the body, If-Match, cursor paging, unique code."""
    base = Collection(
        name="shifts",
        rows=tuple(shift_rows(count)),
        id_prefix="SH-",
        schema=SHIFT_SCHEMA,
        methods={"PATCH": "merge"},
        paging="cursor",
        unique=("code",),
        lookup=("code", "status", "site"),
    )
    return base.having(**options)


STANDARD: dict[str, Callable[..., Collection]] = {"accounts": accounts, "shifts": shifts}


def collection_from(options: Mapping[str, Any]) -> Collection:
    """Build a collection from JSON options; `kind` (accounts, shifts) and `count` start from a standard one.

    Raises ValueError naming an unknown option.
    """
    given = {key: _frozen(value) for key, value in options.items()}
    kind = given.pop("kind", given.get("name") if "rows" not in given else None)
    count = given.pop("count", 30)
    known = {item.name for item in dataclasses.fields(Collection)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if kind in STANDARD:
        return STANDARD[str(kind)](int(count), **given)
    return Collection(**given)


def collections_from(listed: Iterable[Mapping[str, Any]]) -> tuple[Collection, ...]:
    """Build several collections from JSON options, see `collection_from`."""
    return tuple(collection_from(options) for options in listed)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
