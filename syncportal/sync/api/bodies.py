"""What clients may send, and nothing else: a name that is not listed is refused with a pointer to it."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from syncportal.access.problems import FieldProblem, invalid_body
from syncportal.kernel import pointer
from syncportal.sync.api.shapes import AnyJson, JsonObject
from syncportal.sync.resolve import Action


class Body(serializers.Serializer):
    """A request's body; refuses unknown names, so that nobody sets what is not theirs to set."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked values; raises Problem 422 listing every unknown name."""
        unknown = [name for name in data if name not in self.fields] if isinstance(data, Mapping) else []
        if unknown:
            raise invalid_body(
                [FieldProblem(pointer.build((name,)), "not_writable", "This cannot be set here.") for name in unknown]
            )
        return super().to_internal_value(data)


class DataObject(JsonObject):
    """The remote's object, or a merge patch for it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the object; anything else is refused."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be a JSON object.", code="type")
        return data


class CreateBody(Body):
    """A new record."""

    resource = serializers.CharField(max_length=64)
    data = DataObject()  # type: ignore[assignment]  # the contract's name
    owner = serializers.CharField(max_length=150, required=False, allow_null=True)


class PatchBody(Body):
    """A change: `data` is merged by RFC 7396, null removes a key."""

    data = DataObject(required=False)  # type: ignore[assignment]  # the contract's name
    owner = serializers.CharField(max_length=150, required=False, allow_null=True)


class RetryBody(Body):
    """How to try again; only a record whose creation is unknown takes one of the two."""

    sendAgain = serializers.BooleanField(
        required=False, default=False, help_text="The object was never created: send it again."
    )
    linkTo = serializers.CharField(
        required=False, default="", max_length=500, help_text="The object was created: this is its id."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse both at once."""
        if attrs["sendAgain"] and attrs["linkTo"]:
            raise serializers.ValidationError("Send again, or link: not both.", code="invalid")
        return attrs


class NoBody(Body):
    """Nothing; an empty object is accepted."""


class ResolveBody(Body):
    """A decision about a conflict, with what the decider looked at."""

    action = serializers.ChoiceField(choices=[action.value for action in Action])
    fields = serializers.DictField(  # type: ignore[assignment]  # the contract's name
        child=AnyJson(), required=False, help_text='By pointer: "local", "remote" or {"value": …}; only for merge.'
    )
    revision = serializers.IntegerField(min_value=0, max_value=2**62)
    remoteVersion = serializers.CharField(allow_null=True, required=False, default=None, max_length=255)


def read(kind: type[Body], request: Request) -> dict[str, Any]:
    """Return the request's body as checked values; raises Problem 422 with all that is wrong."""
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)
