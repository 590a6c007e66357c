"""JSON that a user wrote, read into dataclasses; what does not fit is named by its place."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from vqathinker_verl.data.records import LabelError

T = TypeVar("T")

# For `__pydantic_config__` of such a dataclass: no field it does not know, and no "1" where a number is expected.
CHECKED = ConfigDict(extra="forbid", strict=True)


def read_json(kind: type[T], text: str, where: str, *, number_items: str = "") -> T:
    """Read JSON text as `kind`, a dataclass or a list or dict of them.

    Args:
        kind: The type, whose dataclasses have CHECKED as their `__pydantic_config__`.
        text: The text.
        where: The file, for the message.
        number_items: What to call the items of a list that is not in a named field, as in "set 1".

    Raises:
        LabelError: The text is not JSON, or a field is unknown, missing or not of its type.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        # A misspelt field is also a missing one; the misspelling says more.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != "unexpected_keyword_argument")
        raise LabelError(": ".join([where, *_described(kind, first, number_items)])) from None


def _described(kind: Any, error: Any, number_items: str) -> list[str]:
    """The place of an error and the error."""
    place = list(error["loc"])
    parts = [str(part) for part in place]
    if number_items and place and isinstance(place[0], int):
        parts[0] = f"{number_items} {place[0] + 1}"
    what = error["msg"].removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return [f"cannot be read as JSON ({what})"]
    if error["type"] == "unexpected_keyword_argument":
        known = ", ".join(_fields_at(kind, place[:-1]))
        return [*parts[:-1], f"unknown field {place[-1]!r}; the fields are {known}"]
    if error["type"] == "missing":
        if isinstance(place[-1], int):
            return [*parts[:-1], f"item {place[-1] + 1} is missing, got {error['input']!r}"]
        return [*parts, "missing; it has no default"]
    return [*parts, f"{what[0].lower()}{what[1:]}, got {error['input']!r}"]


def _fields_at(kind: Any, place: list[Any]) -> list[str]:
    """Names of the fields of the dataclass at a place inside `kind`."""
    if is_dataclass(kind):
        if not place:
            return [field.name for field in fields(kind)]
        hints = {field.name: field.type for field in fields(kind)}
        return _fields_at(hints.get(place[0]), place[1:])
    inner = [argument for argument in getattr(kind, "__args__", ()) if argument not in (str, type(None))]
    if not inner:
        return []
    union = any(argument is type(None) for argument in kind.__args__)
    return _fields_at(inner[-1], place if union else place[1:])
