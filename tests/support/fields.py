"""A message's fields in the words of docs/protocol.md's tables: type, bounds, default. From the types themselves."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

WHOLE = 1 << 20


def rows(kind: type[msgspec.Struct]) -> list[dict[str, str]]:
    """One row a field, as the table has it, without its meaning."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [
        {
            "field": f"`{field.encode_name}`",
            "type": type_of(field.type),
            "bounds": bounds_of(field.type),
            "default": default_of(field),
        }
        for field in info.fields
    ]


def type_of(kind: Any) -> str:
    if isinstance(kind, inspect.UnionType):
        return " or ".join(type_of(inner) for inner in kind.types)
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        return f"list of {type_of(kind.item_type)}"
    if isinstance(kind, inspect.TupleType):
        return f"({', '.join(type_of(inner) for inner in kind.item_types)})"
    if isinstance(kind, inspect.StructType):
        return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
    names = {
        inspect.BytesType: "octets",
        inspect.StrType: "text",
        inspect.IntType: "integer",
        inspect.FloatType: "number",
        inspect.BoolType: "boolean",
        inspect.NoneType: "nil",
    }
    return names[type(kind)]


def bounds_of(kind: Any) -> str:
    """Lengths of octets and text, ranges of numbers; a list's length and then its items' bounds."""
    if isinstance(kind, inspect.UnionType):
        return "; ".join(filter(None, map(bounds_of, kind.types)))
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        inner = bounds_of(kind.item_type)
        return f"≤ {kind.max_length} items" + (f", each {inner}" if inner else "")
    if isinstance(kind, inspect.TupleType):
        return ", ".join(map(bounds_of, kind.item_types))
    if isinstance(kind, (inspect.BytesType, inspect.StrType)):
        return f"{kind.max_length}" if kind.min_length == kind.max_length else f"≤ {kind.max_length}"
    if isinstance(kind, inspect.IntType):
        assert kind.ge is not None
        most = kind.le if kind.le is not None else (kind.lt or 0) - 1
        return f"{kind.ge} … {number(most)}"
    if isinstance(kind, inspect.FloatType):
        return f"{number(int(kind.ge or 0))} … {number(int(kind.le or 0))}"
    return ""


def number(value: int) -> str:
    """Small numbers as they are, large ones by their power."""
    if value >= WHOLE and value & (value - 1) == 0:
        return f"2^{value.bit_length() - 1}"
    if value >= WHOLE and value & (value + 1) == 0:
        return f"2^{value.bit_length()}-1"
    if value >= WHOLE and value == 10 ** (len(str(value)) - 1):
        return f"10^{len(str(value)) - 1}"
    return str(value)


def default_of(field: inspect.Field) -> str:
    if field.required:
        return "–"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nil"
    if isinstance(value, (str, bytes, list, tuple)):
        return f'"{value}"' if value and isinstance(value, str) else "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)
