"""Reading files that users write: strict models, and messages that name the file, the place and the nearest name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from portwright.errors import RecipeError
from portwright.naming import nearest

ModelT = TypeVar("ModelT", bound=BaseModel)
Location = Sequence[int | str]
MAX_SHOWN = 8


class StrictModel(BaseModel):
    """A border model: unknown keys and inexact types are refused, and values don't change."""

    # Built at its first use: most commands need few of them.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, allow_inf_nan=False, defer_build=True
    )


def read_text(path: Path, what: str) -> str:
    """The text of a file the user named; RecipeError says why it can't be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{what} {path} is not UTF-8 text", why=f"byte {error.start}: {error.reason}") from None
    except OSError as error:
        raise RecipeError(f"can't read {what} {path}", why=error.strerror or str(error)) from None


def parse_json_object(text: str, path: Path, what: str) -> dict[str, Any]:
    """A JSON object without repeated keys; RecipeError names the line."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise RecipeError(f"{what} {path}: the key {key!r} stands twice in one object", hint="keep one of them")
            seen[key] = value
        return seen

    def refuse(constant: str) -> NoReturn:
        raise RecipeError(f"{what} {path}: {constant} is not JSON")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"{what} {path} is not JSON", why=f"line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise RecipeError(f"{what} {path} is nested too deeply") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise RecipeError(f"{what} {path} holds a number that can't be", why=str(error)) from None
    if not isinstance(value, dict):
        raise RecipeError(
            f"{what} {path} must be a JSON object", why=f"it is {_JSON_KINDS.get(type(value), 'a number')}"
        )
    return value


_JSON_KINDS = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}


def read_json(model: type[ModelT], text: str, path: Path, what: str) -> ModelT:
    """A JSON file's text as `model`; RecipeError for what is no JSON object, and as `validate` says."""
    parse_json_object(text, path, what)  # pydantic's own reader takes a key twice, and NaN
    return _validate(model, text, path, what)


def validate(model: type[ModelT], value: dict[str, Any], path: Path, what: str) -> ModelT:
    """`value` as `model`; RecipeError lists what is wrong, each with its place and what was expected."""
    # Through JSON: strict mode takes a list for a tuple only there.
    return _validate(model, json.dumps(value, default=str), path, what)


def _validate(model: type[ModelT], text: str, path: Path, what: str) -> ModelT:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise invalid(error, path, what, known_keys(model)) from None


def invalid(error: ValidationError, path: Path, what: str, known: Iterable[str], prefix: Location = ()) -> RecipeError:
    """A RecipeError from pydantic's: one line a fault."""
    known = list(known)
    faults = error.errors(include_url=False)
    lines = [
        _fault([*prefix, *fault["loc"]], fault["type"], fault["msg"], fault.get("input"), known) for fault in faults
    ]
    shown = lines[:MAX_SHOWN] + ([f"and {len(lines) - MAX_SHOWN} more"] if len(lines) > MAX_SHOWN else [])
    return RecipeError(
        f"{what} {path}: {shown[0]}" if len(shown) == 1 else f"{what} {path}:\n    " + "\n    ".join(shown)
    )


def _fault(place: Location, kind: str, message: str, given: object, known: Sequence[str]) -> str:
    where = show_place(place)
    name = str(place[-1]) if place else ""
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        guess = nearest(name, known)
        return f"{where}: unknown key; " + (
            f"did you mean {guess!r}?" if guess else f"known: {', '.join(sorted(known))}"
        )
    if kind in {"missing", "missing_keyword_only_argument", "missing_argument"}:
        return f"{where}: is missing"
    if kind == "too_short" and not given:
        return f"{where}: is empty"
    # What a file calls an array or a list, pydantic calls by the type it becomes.
    text = message.removeprefix("Value error, ").replace("valid tuple", "valid array")
    if kind == "value_error":
        return text if not place else f"{where}: {text}"
    return f"{where}: {text[0].lower() + text[1:]} (it is {_short(given)})"


def show_place(place: Location) -> str:
    """`stages[2].opset` for ('stages', 2, 'opset')."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(the whole file)"


def known_keys(model: type[BaseModel]) -> set[str]:
    """Every key of a model and of the models inside it, for guessing what a typo meant."""
    keys: set[str] = set()
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        keys |= set(part.get("properties", {}))
    return keys


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004
