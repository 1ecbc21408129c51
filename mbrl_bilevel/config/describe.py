"""Lists the fields of a configuration model: for `--help` and for error messages."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class FieldDescription:
    """One leaf of a configuration: its dotted key, type, default and meaning."""

    key: str
    type: str
    default: str
    meaning: str
    variant: str | None = None
    """Value of the parent's `name` for which the field exists; None: always."""


def describe_fields(
    model: type[BaseModel], prefix: str = "", variant: str | None = None
) -> Iterator[FieldDescription]:
    """Yield every leaf field of `model`, depth first, in the order of declaration."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        variants = _model_variants(field.annotation)
        if not variants:
            yield FieldDescription(
                key, _type_name(field), _default(field), field.description or "", variant
            )
        elif len(variants) == 1:
            if _is_optional(field.annotation):
                meaning = field.description or ""
                yield FieldDescription(key, "mapping | null", _default(field), meaning, variant)
            yield from describe_fields(variants[0], f"{key}.", variant)
        else:
            names = [_tag(v) for v in variants]
            yield FieldDescription(
                f"{key}.name",
                " | ".join(names),
                _default_tag(field),
                field.description or "",
                variant,
            )
            for choice in variants:
                for leaf in describe_fields(choice, f"{key}.", _tag(choice)):
                    if leaf.key != f"{key}.name":
                        yield leaf


def _model_variants(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    options = get_args(annotation) if _is_union(annotation) else (annotation,)
    return [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]


def _is_optional(annotation: Any) -> bool:
    return _is_union(annotation) and type(None) in get_args(annotation)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _tag(model: type[BaseModel]) -> str:
    return str(model.model_fields["name"].default)


def _default_tag(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return str(default.name) if default is not PydanticUndefined else "required"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, (list, dict, float, int)) or isinstance(value, bool)
        else str(value)
    )


def _type_name(field: FieldInfo) -> str:
    text = _annotation_name(field.annotation)
    limits = [_limit(m) for m in field.metadata]
    return " ".join([text, *[limit for limit in limits if limit]])


def _annotation_name(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [_limit(m) for extra in args[1:] for m in getattr(extra, "metadata", [extra])]
        return " ".join([_annotation_name(args[0]), *[limit for limit in limits if limit]])
    if origin is Literal:
        return " | ".join(str(a) for a in args)
    if _is_union(annotation):
        return " | ".join(_annotation_name(a) for a in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_annotation_name(a) for a in args)}]"
    return "null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _limit(constraint: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return " ".join(
        f"{sign}{getattr(constraint, name)}"
        for name, sign in signs.items()
        if getattr(constraint, name, None) is not None
    )
