"""Pydantic's errors in the words of the pipeline file: what is wrong, and what is allowed."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

from pydantic_core import ErrorDetails

from k2i_core.config.document import Document
from k2i_core.config.pipeline import Pipeline
from k2i_core.config.problems import KeyPath, Problem, key_text, quoted
from k2i_core.config.settings import REFUSED_KEYS, Section


def problems_of(document: Document, detail: ErrorDetails) -> Iterator[Problem]:
    """Yield what one pydantic error means, in the words of the pipeline file."""
    path = detail["loc"]
    context = detail.get("ctx", {})
    if detail["type"] == REFUSED_KEYS:
        for key, reason in cast("dict[str | int, str]", context["reasons"]).items():
            yield Problem(document.origin((*path, key)), (*path, key), reason)
        return
    yield Problem(document.origin(path), path, _message(path, detail, context))


def _message(  # noqa: C901, PLR0911 - one line for each of pydantic's error types
    path: KeyPath, detail: ErrorDetails, context: Mapping[str, Any]
) -> str:
    value = detail["input"]
    match detail["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            example = _example(path)
            return f"is required, for example {example}" if example else "is required"
        case "extra_forbidden":
            return _unknown_key(path)
        case "string_type":
            hint = "; put it in quotes" if isinstance(value, int) else ""
            return f"must be text, not {quoted(value)}{hint}"
        case "literal_error" | "enum":
            allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
            return f"{quoted(value)} is not allowed; write one of {allowed}"
        case "model_type" | "dict_type":
            return f"must be a mapping of keys, not {quoted(value)}"
        case "tuple_type" | "list_type":
            return f"must be a list, not {quoted(value)}"
        case "bool_type" | "bool_parsing":
            return f"{quoted(value)} is neither true nor false"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} letters"
        case _:
            return detail["msg"][:1].lower() + detail["msg"][1:]


def _example(path: KeyPath) -> str | None:
    parent, name = _model_at(path[:-1]), path[-1]
    field = parent.model_fields.get(str(name)) if parent else None
    example = field.examples[0] if field and field.examples else None
    return quoted(example) if isinstance(example, str | int) else None


def _unknown_key(path: KeyPath) -> str:
    model = _model_at(path[:-1])
    allowed = list(model.model_fields) if model else []
    name = str(path[-1])
    near = difflib.get_close_matches(name.lower(), allowed, n=1, cutoff=0.6)
    if near:
        return f'is not a key; did you mean "{near[0]}"?'
    homes = [key_text(home) for home in _homes(Pipeline, ()) if home[-1] == name]
    if homes:
        return f'is not a key here; did you mean "{homes[0]}"?'
    return f"is not a key; allowed: {', '.join(allowed)}"


def _homes(model: type[Section], path: KeyPath) -> Iterator[KeyPath]:
    for name, field in model.model_fields.items():
        yield (*path, name)
        inner = model_of(field.annotation)
        if inner is not None:
            yield from _homes(inner, (*path, name))


def _model_at(path: KeyPath) -> type[Section] | None:
    model: type[Section] | None = Pipeline
    for part in path:
        if model is not None and isinstance(part, str):
            field = model.model_fields.get(part)
            model = model_of(field.annotation) if field else None
    return model


def model_of(annotation: object) -> type[Section] | None:
    """Return the section that a field holds, inside a list or an optional too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (model_of(argument) for argument in get_args(annotation))
    return next((model for model in inner if model is not None), None)
