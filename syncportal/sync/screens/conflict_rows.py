"""The fields of a conflict as the page shows them: three sides, who changed what, the choice made, the result.

Owns: `Row` and reading per-field choices from a form. Guarantees: a field that changed since the person looked is
marked; what cannot be read is noted at its field and nothing else is. Does not: write anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from syncportal.kernel import pointer, strict_json
from syncportal.remote.spec import ResourceSpec
from syncportal.sync.conflicts import three_way
from syncportal.sync.events import Kind
from syncportal.sync.models import Conflict, Event
from syncportal.sync.resolve import FieldView, field_views
from syncportal.sync.schema_fields import Place, place_at
from syncportal.sync.screens.record_parts import label_of
from syncportal.sync.screens.values import Shown, shown

LOCAL, REMOTE, TYPED = "local", "remote", "value"
_EDITS = (Kind.RECORD_EDITED.value, Kind.RECORD_CREATED.value)
_LOOKED_BACK = 50


@dataclass(slots=True)
class Row:
    """One differing field. must_choose: both sides changed it, to different values. moved: since the person looked."""

    number: int
    view: FieldView
    label: str
    base: Shown
    local: Shown
    remote: Shown
    place: Place
    typed: forms.Field
    choice: str
    must_choose: bool
    seal: str
    edit: Event | None = None
    posted: Any = None
    moved: bool = False
    errors: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the name of the radio buttons."""
        return f"choice:{self.view.pointer}"

    @property
    def typed_name(self) -> str:
        """Return the name of the field for a typed value."""
        return f"value:{self.view.pointer}"

    @property
    def seen_name(self) -> str:
        """Return the name of the hidden field that says what the person looked at."""
        return f"seen:{self.view.pointer}"

    @property
    def result(self) -> Shown | None:
        """Return what the field will hold, None while that is not decided or cannot be read."""
        if self.choice == TYPED:
            try:
                return shown(self.typed_value())
            except ValidationError:
                return None
        return {LOCAL: self.local, REMOTE: self.remote}.get(self.choice)

    def typed_value(self) -> Any:
        """Return the JSON value that was typed; raises ValidationError."""
        cleaned = self.typed.clean(self.posted)
        if cleaned in (None, "") and self.place.must_be_filled:
            raise ValidationError("This field is required.")
        return self.place.json_value(cleaned)

    def typed_input(self) -> str:
        """Return the input for a typed value, filled with what was typed or the local value."""
        filled = self.posted is not None
        start = self.posted if filled else self.place.shown(self.view.local)
        attrs = {**self.typed.widget.attrs, "aria-label": f"Another value for {self.label}"}
        if isinstance(self.typed, forms.DateTimeField) and not filled:
            start = self.typed.prepare_value(start)
        return self.typed.widget.render(self.typed_name, start, attrs=attrs)


def rows_of(
    conflict: Conflict, spec: ResourceSpec, *, local: Mapping[str, Any], posted: Mapping[str, Any] | None = None
) -> list[Row]:
    """Return the differing fields, disputed ones first, with the choices made so far. local: what the record holds."""
    merge = three_way(conflict.base, dict(local), conflict.remote or {}, comparator=spec.comparator)
    edits = _last_edits(conflict) if conflict.remote is not None else {}
    rows = []
    for number, view in enumerate(view for view in field_views(conflict, spec) if _shown_first(view, conflict, spec)):
        place = place_at(spec.schema, view.pointer, view.local if view.local is not None else view.remote)
        typed = place.field()
        typed.widget.attrs |= {"id": f"typed-{number}", **({"rows": 2} if "rows" in typed.widget.attrs else {})}
        must_choose = view.pointer in merge.conflicts and conflict.remote is not None
        side = LOCAL if view.pointer in merge.local_changes else REMOTE
        row = Row(
            number=number, view=view, label=label_of(spec, view.pointer), base=shown(view.base),
            local=shown(view.local), remote=shown(view.remote), place=place, typed=typed,
            choice="" if must_choose else side, must_choose=must_choose, seal=_seal(view),
            edit=edits.get(pointer.parse(view.pointer)[0]) if view.pointer in merge.local_changes else None,
        )  # fmt: skip
        if posted is not None:
            _fill_in(row, posted)
        rows.append(row)
    return sorted(rows, key=lambda row: not row.must_choose)


def _fill_in(row: Row, posted: Mapping[str, Any]) -> None:
    """Keep what the person chose and typed, and note whether the field moved since."""
    given = posted.get(row.name, row.choice)
    row.choice = given if given in (LOCAL, REMOTE, TYPED) else ""
    checkbox = isinstance(row.typed.widget, forms.CheckboxInput)
    row.posted = (row.typed_name in posted) if checkbox else posted.get(row.typed_name)
    row.moved = posted.get(row.seen_name, "") not in ("", row.seal)


def choices_of(rows: list[Row]) -> dict[str, Any]:
    """Return the per-field choices for a merge; what is missing or cannot be read is noted at its row."""
    chosen: dict[str, Any] = {}
    for row in rows:
        if row.choice in (LOCAL, REMOTE):
            chosen[row.view.pointer] = row.choice
        elif row.choice == TYPED:
            try:
                chosen[row.view.pointer] = {"value": row.typed_value()}
            except ValidationError as problem:
                row.errors.extend(problem.messages)
        elif row.must_choose:
            row.errors.append("Choose the local value, the remote value, or type another one.")
    return chosen


def same_fields(conflict: Conflict, spec: ResourceSpec) -> list[tuple[str, Shown]]:
    """Return the fields in which the sides agree that there are."""
    views = (view for view in field_views(conflict, spec) if not _shown_first(view, conflict, spec))
    return [(label_of(spec, view.pointer), shown(view.local)) for view in views]


def _shown_first(view: FieldView, conflict: Conflict, spec: ResourceSpec) -> bool:
    """Tell whether a field differs; an object that is gone at the remote differs in everything, so not by that."""
    if conflict.remote is not None:
        return view.differs
    return not spec.comparator.same(view.pointer, view.base, view.local)


def _seal(view: FieldView) -> str:
    return sha256(strict_json.dumps_canonical([view.local, view.remote]).encode()).hexdigest()[:16]


def _last_edits(conflict: Conflict) -> dict[str, Event]:
    """Return the last edit of each top-level field, as far as the newest events tell."""
    events = Event.objects.filter(record_id=conflict.record_id, kind__in=_EDITS).select_related("actor")
    found: dict[str, Event] = {}
    for event in events.order_by("-id")[:_LOOKED_BACK]:
        changes = event.data.get("changes") if isinstance(event.data, dict) else None
        for name in changes if isinstance(changes, dict) else ():
            found.setdefault(name, event)
    return found
