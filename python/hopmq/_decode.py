"""Bodies as the types that handlers ask for.

Owns the choice of a reader by a type, once a handler. In come bodies with their content type; out go values, or a
`Reject` that says why there is none. It must never know a queue.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, get_args, get_origin

from hopmq._typed import converter
from hopmq.outcomes import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

Read = "Callable[[bytes], Any]"

_JSON = frozenset({"application/json", "text/json"})
_judged: dict[str, bool] = {}
_MOST_JUDGED = 1000


def is_json(content_type: str) -> bool:
    """Return whether a body with this content type is read as JSON."""
    known = _judged.get(content_type)
    if known is None:
        essence = content_type.partition(";")[0].strip().lower()
        known = essence in _JSON or essence.endswith("+json")
        if len(_judged) < _MOST_JUDGED:
            _judged[content_type] = known
    return known


def name_of(kind: Any) -> str:
    """Return what a type is called in errors."""
    name = None if get_args(kind) else getattr(kind, "__name__", None)
    return name if isinstance(name, str) else str(kind).replace("typing.", "")


def reader(kind: Any, *, text_is_json: bool = False) -> tuple[Callable[[bytes], Any], bool]:
    """Return the function that reads a body as a type, and whether the body must be JSON.

    `text_is_json` reads `str` from JSON, as calls do. A TypeError tells of a type that no body has.
    """
    if kind is bytes:
        return bytes, False
    if kind is str and not text_is_json:
        return _text, False
    name = name_of(kind)
    return _guarded(_json_reader(kind), name), True


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        message = f"the body is no text: {error}"
        raise Reject(message, error_class="decode") from None


def _json_reader(kind: Any) -> Callable[[bytes], Any]:
    if kind in (Any, object, dict, list) or kind is None:
        convert = converter(kind)
        return lambda body: convert(json.loads(body), "")
    validator = getattr(kind, "__pydantic_validator__", None)
    if validator is not None and isinstance(kind, type):
        return validator.validate_json  # type: ignore[no-any-return]
    if _mentions(kind, "__pydantic_validator__"):
        from pydantic import TypeAdapter

        return TypeAdapter(kind).validate_json
    if _mentions(kind, "__struct_fields__"):
        import msgspec

        return msgspec.json.Decoder(kind).decode
    convert = converter(kind)
    return lambda body: convert(json.loads(body), "")


def _mentions(kind: Any, attribute: str) -> bool:
    """Return whether a type, or one of its arguments, is of a library's kind."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return hasattr(kind, attribute)
    return any(_mentions(each, attribute) for each in get_args(kind))


def _guarded(read: Callable[[bytes], Any], name: str) -> Callable[[bytes], Any]:
    def guarded(body: bytes) -> Any:
        try:
            return read(body)
        except Exception as error:  # noqa: BLE001 - each library has its own
            raise refused(error, name) from None

    return guarded


def refused(error: Exception, name: str) -> Reject:
    """Return the outcome of a body that could not be read."""
    if _is_syntax(error):
        return Reject(f"the body is not the JSON of {name}: {_first(error)}", error_class="decode")
    return Reject(f"the body is no valid {name}: {_first(error)}", error_class="invalid")


def _is_syntax(error: Exception) -> bool:
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, RecursionError)):
        return True
    errors = getattr(error, "errors", None)
    if errors is not None:
        return any(each["type"] == "json_invalid" for each in errors(include_url=False))
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(error, msgspec.DecodeError):
        return not isinstance(error, msgspec.ValidationError)
    return False


def _first(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    all_errors = errors(include_url=False)
    texts = [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in all_errors[:5]]
    more = [f"and {len(all_errors) - 5} more"] if len(all_errors) > 5 else []  # noqa: PLR2004
    return "; ".join(texts + more)


def wrong_type(content_type: str) -> Reject:
    """Return the outcome of a body that is not in JSON."""
    text = f'the content type is "{content_type}", and the handler reads JSON'
    return Reject(text, error_class="content-type")


def header(value: Any, kind: Any, name: str) -> Any:
    """Return the value of a header if it is of a type."""
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    message = f"the header {name!r} is {value!r}, not {getattr(kind, '__name__', kind)}"
    raise Reject(message, error_class="header")


def missing(name: str) -> Reject:
    """Return the outcome of a message without a header."""
    return Reject(f"the header {name!r} is missing", error_class="header")
