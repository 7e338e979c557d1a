"""Values of Python as JSON and back, for two processes that do not trust each other: plain values by their exact type,
everything else as a reference. Reading one runs nothing and makes nothing but what is listed here."""

from __future__ import annotations

import builtins
import sys
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

MOST_VALUES = 200_000
MOST_DEPTH = 100
_SMALL_INT = 1 << 53

Refer = Callable[[Any], dict[str, Any]]
"""Makes the form of a value that is not plain; raises Unspeakable where it has none."""
Resolve = Callable[[dict[str, Any]], Any]
"""The value behind such a form."""


class Unspeakable(Exception):
    """A value that has no form, or a form that is none."""


class Packer:
    """Makes forms. What a value says of itself is not asked: subclasses of plain types are taken by the methods of the
    plain type, so that a value that equals everything does not leave its process as such."""

    def __init__(self, refer: Refer) -> None:
        self._refer, self._left = refer, MOST_VALUES

    def pack(self, value: Any, depth: int = 0) -> Any:
        """The form of `value`, ready for JSON. Raises Unspeakable."""
        self._left -= 1
        if self._left < 0 or depth > MOST_DEPTH:
            raise Unspeakable("the value is too large, too deep, or holds itself")
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if issubclass(kind, str):
            return str.__getitem__(value, slice(None)) if kind is not str else value
        if issubclass(kind, int):
            number = int.__int__(value)
            return number if -_SMALL_INT < number < _SMALL_INT else {"is": "int", "of": hex(number)}
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, list):
            return [self.pack(item, depth + 1) for item in list.__iter__(value)]
        return self._composed(value, kind, depth) or self._listed(value, kind, depth) or self._refer(value)

    def _composed(self, value: Any, kind: type, depth: int) -> dict[str, Any] | None:
        for plain in (tuple, set, frozenset, deque):
            if issubclass(kind, plain):
                walk = plain.__iter__(value)
                return {"is": plain.__name__, "of": [self.pack(item, depth + 1) for item in walk]}
        if issubclass(kind, dict):
            items = [[self.pack(key, depth + 1), self.pack(item, depth + 1)] for key, item in dict.items(value)]
            return {"is": "dict", "of": items}
        if kind in _VIEWS:
            return {"is": _VIEWS[kind], "of": [self.pack(item, depth + 1) for item in value]}
        return None

    def _listed(self, value: Any, kind: type, depth: int) -> dict[str, Any] | None:
        if kind is type and value in _BUILTIN_TYPES:
            return {"is": "type", "of": _BUILTIN_TYPES[value]}
        if kind in _TAKEN_APART:
            name, parts = _TAKEN_APART[kind]
            return {"is": name, "of": parts(value)}
        for (module, name), parts in _TAKEN_APART_WHERE_LOADED.items():
            if getattr(sys.modules.get(module), name, None) is kind:
                return {"is": name, "of": parts(value)}
        return None


_BUILTIN_TYPES: dict[Any, str] = {one: name for name, one in vars(builtins).items() if type(one) is type}
_VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
_TAKEN_APART: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("bytes", bytes.hex),
    bytearray: ("bytearray", bytearray.hex),
    complex: ("complex", lambda value: [value.real, value.imag]),
    range: ("range", lambda value: [hex(part) for part in (value.start, value.stop, value.step)]),
    type(...): ("ellipsis", lambda value: None),
    type(NotImplemented): ("not_implemented", lambda value: None),
}
_TAKEN_APART_WHERE_LOADED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("decimal", "Decimal"): str,
    ("fractions", "Fraction"): lambda value: [hex(value.numerator), hex(value.denominator)],
    ("datetime", "datetime"): lambda value: value.isoformat(),
    ("datetime", "date"): lambda value: value.isoformat(),
    ("datetime", "time"): lambda value: value.isoformat(),
    ("datetime", "timedelta"): lambda value: [value.days, value.seconds, value.microseconds],
}
"""Of modules that are only loaded when somebody has loaded them."""


def unpack(form: Any, resolve: Resolve, depth: int = 0) -> Any:
    """The value of a form. Raises Unspeakable for what is no form."""
    if depth > MOST_DEPTH:
        raise Unspeakable("the value is too deep")
    if form is None or type(form) in (bool, int, float, str):
        return form
    if type(form) is list:
        return [unpack(item, resolve, depth + 1) for item in form]
    if type(form) is not dict:
        raise Unspeakable("no form of a value")
    name, of = str(form.get("is")), cast(Any, form.get("of"))
    try:
        if name in _FROM_LIST:
            return _FROM_LIST[name]([unpack(item, resolve, depth + 1) for item in of])
        if name in _FROM_PARTS:
            return _FROM_PARTS[name](of)
        if name == "type":
            return _builtin_type(of)
    except Unspeakable:
        raise
    except Exception as error:
        raise Unspeakable(f"no form of a value ({type(error).__name__})") from None
    return resolve(form)


def _builtin_type(name: str) -> type:
    found = getattr(builtins, name, None)
    if not isinstance(found, type):
        raise Unspeakable("no such type")
    return found


_FROM_LIST: Mapping[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque,
    "dict": dict,
    "keys": lambda items: dict.fromkeys(items).keys(),
    "values": lambda items: dict(enumerate(items)).values(),
    "items": lambda items: dict(items).items(),
}
_FROM_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda of: int(of, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda of: complex(*of),
    "range": lambda of: range(*(int(part, 16) for part in of)),
    "ellipsis": lambda of: ...,
    "not_implemented": lambda of: NotImplemented,
    "Decimal": lambda of: import_module("decimal").Decimal(of),
    "Fraction": lambda of: import_module("fractions").Fraction(int(of[0], 16), int(of[1], 16)),
    "datetime": lambda of: import_module("datetime").datetime.fromisoformat(of),
    "date": lambda of: import_module("datetime").date.fromisoformat(of),
    "time": lambda of: import_module("datetime").time.fromisoformat(of),
    "timedelta": lambda of: import_module("datetime").timedelta(*of),
}
