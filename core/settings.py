"""What every typed file of settings shares: errors that name the key and the nearest known one."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def explain_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence about the first thing that is wrong, with the key and a remedy.

    Values are not repeated, since a file of settings may hold a secret.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    location = first["loc"]
    key = ".".join(str(part) for part in location) or "the file"
    if first["type"] == "extra_forbidden":
        known = sorted(_field_names(model))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys are {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        known = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        near = difflib.get_close_matches(str(context["tag"]), known, n=1, cutoff=0.4)
        name = str(context["discriminator"]).strip("'")
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"'{key}': unknown {name} '{context['tag']}'; {hint}Known are {', '.join(known)}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    more = error.error_count() - 1
    return f"'{key}': {message}" + (f" (and {more} more)" if more else "")


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        for nested in _models_in(field.annotation):
            if nested is not model:
                names |= _field_names(nested)
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]
