"""Bodies of messages from Python objects, and back.

Owns the formats. In come objects, or bodies with their content type and the wanted type; out go the others. It must
never know a queue.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

JSON = "application/json"
OCTETS = "application/octet-stream"


def encode(value: object) -> tuple[bytes, str | None]:
    """Return the body of a value, and its content type if the value has one."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value), None
    if isinstance(value, (dict, list, tuple, int, float, bool)) or value is None:
        return _json(value), JSON
    dump = getattr(value, "model_dump_json", None)
    if dump is not None:
        return dump().encode(), JSON
    kind = type(value)
    if hasattr(kind, "__struct_fields__"):
        import msgspec

        return msgspec.json.encode(value), JSON
    if dataclasses.is_dataclass(value) or hasattr(kind, "__attrs_attrs__"):
        return _json(value), JSON
    message = (
        "a body must be bytes, str, or something that JSON can hold (dict, list, dataclass, attrs, Pydantic, msgspec), "
        f"not {kind.__name__}"
    )
    raise TypeError(message)


def _json(value: object) -> bytes:
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return what JSON holds in place of a value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    isoformat = getattr(value, "isoformat", None)
    if isoformat is not None:
        return isoformat()
    message = f"JSON can't hold a {type(value).__name__}"
    raise TypeError(message)
