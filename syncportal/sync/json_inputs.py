"""Form fields for JSON values: text, number, a text a line, any JSON. What a browser sends becomes a JSON value.

Guarantees: an untouched value is never seen as changed because a browser spells it differently. Pure.
"""

import math
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from syncportal.kernel import strict_json
from syncportal.kernel.strict_json import StrictJsonError

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")


class TextField(forms.CharField):
    """A text whose line breaks are the same whatever the browser sends."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, empty_value="", **options)

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n").replace("\r", "\n")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class NumberField(forms.Field):
    """A JSON number: an integer stays one, a fraction becomes a float."""

    widget = forms.NumberInput

    def __init__(self, *, whole: bool, **options: Any) -> None:
        self.whole = whole
        super().__init__(**options)

    def to_python(self, value: Any) -> int | float | None:
        text = str(value if value is not None else "").strip()
        if text == "":
            return None
        found = _NUMBER.match(text) if len(text) <= 40 else None
        if found is None:
            raise ValidationError("Enter a whole number." if self.whole else "Enter a number.")
        if not found[1] and not found[2]:
            return int(text)
        number = float(text)
        if not math.isfinite(number):
            raise ValidationError("This number is too large.")
        if self.whole and number.is_integer():
            return int(number)
        if self.whole:
            raise ValidationError("Enter a whole number.")
        return number

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(initial != self.to_python(data))
        except ValidationError:
            return True


class LinesField(TextField):
    """An array of texts, one a line."""

    def clean(self, value: Any) -> Any:
        lines = [line.strip() for line in super().clean(value).split("\n")]
        return [line for line in lines if line] or None


class JsonField(TextField):
    """Any JSON value as text."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value).strip()
        if not text:
            return None
        try:
            return strict_json.loads(text, max_bytes=1024 * 1024)
        except StrictJsonError as problem:
            raise ValidationError(f"This is {problem.message}.") from None
