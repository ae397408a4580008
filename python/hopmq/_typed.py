"""Values of plain types from JSON: dataclasses, attrs, and what the standard library has.

Owns the checks of these types, built once a type. In come the values of `json.loads`; out go objects, or a ValueError
with the place of the mistake. It must never know a message.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

Convert = Callable[[Any, str], Any]

_MISSING = object()


class MismatchError(ValueError):
    """A value does not fit its type."""


def _wrong(place: str, what: str, value: object) -> MismatchError:
    return MismatchError(f"{place or 'the whole'} must be {what}, not {type(value).__name__}")


def converter(kind: Any) -> Convert:
    """Return the function that makes a value of a type. A TypeError tells of a type that JSON can't hold."""
    return _converter(kind, {})


def _converter(kind: Any, known: dict[Any, Convert]) -> Convert:  # noqa: PLR0911 - one for each kind of type
    kind = _plain(kind)
    if kind in (Any, object):
        return lambda value, _place: value
    if kind in known:
        return known[kind]
    simple = _SIMPLE.get(kind) if isinstance(kind, type) else None
    if simple is not None:
        return simple
    if kind is None or kind is type(None):
        return _none
    origin = get_origin(kind)
    if origin is not None:
        return _generic(kind, origin, known)
    if isinstance(kind, type):
        if issubclass(kind, enum.Enum):
            return _enum(kind)
        if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
            return _record(kind, known)
        if issubclass(kind, dict):
            return _instance(dict, "an object")
    message = f"a body can't be read as {kind!r}: take bytes, str, dict, a dataclass, attrs, Pydantic or msgspec"
    raise TypeError(message)


def _plain(kind: Any) -> Any:
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        else:
            return kind


def _instance(kind: type, what: str) -> Convert:
    def convert(value: Any, place: str) -> Any:
        if type(value) is not kind:
            raise _wrong(place, what, value)
        return value

    return convert


def _float(value: Any, place: str) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise _wrong(place, "a number", value)


def _none(value: Any, place: str) -> None:
    if value is not None:
        raise _wrong(place, "null", value)


def _text(parse: Callable[[str], Any], what: str) -> Convert:
    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, str):
            raise _wrong(place, what, value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            message = f"{place or 'the whole'} must be {what}, not {value!r}"
            raise MismatchError(message) from None

    return convert


def _decimal(value: Any, place: str) -> decimal.Decimal:
    if type(value) is int or type(value) is float:
        return decimal.Decimal(str(value))
    number: decimal.Decimal = _text(decimal.Decimal, "a decimal number")(value, place)
    return number


_SIMPLE: dict[type, Convert] = {
    str: _instance(str, "a text"),
    int: _instance(int, "an integer"),
    bool: _instance(bool, "true or false"),
    float: _float,
    dict: _instance(dict, "an object"),
    list: _instance(list, "a list"),
    decimal.Decimal: _decimal,
    dt.datetime: _text(dt.datetime.fromisoformat, "a time such as 2026-11-30T12:00:00Z"),
    dt.date: _text(dt.date.fromisoformat, "a date such as 2026-11-30"),
    dt.time: _text(dt.time.fromisoformat, "a time such as 12:00:00"),
    uuid.UUID: _text(uuid.UUID, "a UUID"),
}


def _enum(kind: type[enum.Enum]) -> Convert:
    def convert(value: Any, place: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            names = ", ".join(repr(member.value) for member in kind)
            message = f"{place or 'the whole'} must be one of {names}, not {value!r}"
            raise MismatchError(message) from None

    return convert


def _generic(kind: Any, origin: Any, known: dict[Any, Convert]) -> Convert:
    arguments = get_args(kind)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union(arguments, known)
    if origin in (dict, Mapping):
        return _mapping(_converter(arguments[1], known))
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):  # noqa: PLR2004
        return _tuple([_converter(each, known) for each in arguments])
    if origin in (list, set, frozenset, tuple, Sequence):
        make: Callable[[Any], Any] = list if origin is Sequence else cast("Any", origin)
        return _sequence(make, _converter(arguments[0], known))
    message = f"a body can't be read as {kind!r}"
    raise TypeError(message)


def _literal(allowed: tuple[Any, ...]) -> Convert:
    def convert(value: Any, place: str) -> Any:
        for each in allowed:
            if value == each and type(value) is type(each):
                return each
        message = f"{place or 'the whole'} must be one of {', '.join(map(repr, allowed))}, not {value!r}"
        raise MismatchError(message)

    return convert


def _union(kinds: tuple[Any, ...], known: dict[Any, Convert]) -> Convert:
    converters = [_converter(each, known) for each in kinds]

    def convert(value: Any, place: str) -> Any:
        first: MismatchError | None = None
        for each in converters:
            try:
                return each(value, place)
            except MismatchError as error:
                first = first or error
        raise first or _wrong(place, "another value", value)

    return convert


def _mapping(each: Convert) -> Convert:
    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(place, "an object", value)
        return {key: each(item, f"{place}[{key!r}]") for key, item in value.items()}

    return convert


def _tuple(converters: list[Convert]) -> Convert:
    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, list) or len(value) != len(converters):
            raise _wrong(place, f"a list of {len(converters)}", value)
        pairs = enumerate(zip(converters, value, strict=True))
        return tuple(each(item, f"{place}[{index}]") for index, (each, item) in pairs)

    return convert


def _sequence(make: Callable[[Any], Any], each: Convert) -> Convert:
    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, list):
            raise _wrong(place, "a list", value)
        return make([each(item, f"{place}[{index}]") for index, item in enumerate(value)])

    return convert


def _record(kind: Any, known: dict[Any, Convert]) -> Convert:  # noqa: C901 - dataclasses and attrs
    fields: list[tuple[str, str, Convert, bool]] = []

    def convert(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(place, f"an object for {kind.__name__}", value)
        arguments = {}
        for name, argument, each, is_needed in fields:
            item = value.get(name, _MISSING)
            if item is not _MISSING:
                arguments[argument] = each(item, f"{place}.{name}" if place else name)
            elif is_needed:
                message = f"{place}.{name} is missing" if place else f"{name} is missing"
                raise MismatchError(message)
        try:
            return kind(**arguments)
        except (ValueError, TypeError) as error:
            message = f"{place or 'the whole'} is no {kind.__name__}: {error}"
            raise MismatchError(message) from error

    # A type may contain itself.
    known[kind] = convert
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if field.init:
                fields.append((field.name, field.name, _converter(hints[field.name], known), default))
    else:
        import attrs

        for attribute in kind.__attrs_attrs__:
            if attribute.init:
                each = _converter(hints.get(attribute.name, Any), known)
                argument = attribute.alias or attribute.name.lstrip("_")
                fields.append((attribute.name, argument, each, attribute.default is attrs.NOTHING))
    return convert
