"""AsyncAPI 3.0 documents of apps.

Owns the shape of the document. In come the handlers of an app; out goes a dictionary for JSON. It must never connect.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from hopmq import _compile
from hopmq._hopmq import Incoming, Message

if TYPE_CHECKING:
    from hopmq.app import App, Route

_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", dict: "object"}


def document(app: App, title: str = "hopmq", version: str = "1.0.0") -> dict[str, Any]:
    """Return the AsyncAPI document of an app: its queues, bindings, and the JSON Schemas of the bodies."""
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for route in app.routes:
        name = route.queue or _subscription(route)
        key = name if route.method is None else f"{name}.{route.method}"
        channels[key] = _channel(route, name, _schema(_payload(route), schemas))
        operation: dict[str, Any] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{key}"},
            "title": route.name.rpartition(".")[2],
        }
        text = inspect.getdoc(route.function)
        if text:
            operation["description"] = text
        if route.is_rpc:
            reply = f"{key}.reply"
            channels[reply] = _message(None, _schema(route.hints.get("return", Any), schemas))
            operation["reply"] = {
                "address": {"location": "$message.header#/replyTo"},
                "channel": {"$ref": f"#/channels/{reply}"},
            }
        operations[f"receive.{key}"] = operation
        for place in _compile.published(route.hints.get("return")):
            _publish(route, place, schemas, channels, operations)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas},
    }


def _publish(route: Route, place: Any, schemas: Any, channels: Any, operations: Any) -> None:
    key = f"{place.exchange}.{place.routing_key}" if place.exchange else place.routing_key
    schema = _schema(get_args(route.hints["return"])[0], schemas)
    channels.setdefault(key, _message(place.routing_key, schema))
    operations[f"send.{key}.{route.name.rpartition('.')[2]}"] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{key}"},
    }


def _subscription(route: Route) -> str:
    exchange = route.settings["bind"][0][0]
    return f"{exchange}.{route.settings.get('group', 'each')}"


def _channel(route: Route, name: str, schema: Any) -> dict[str, Any]:
    channel = _message(name, schema)
    queue = {"name": name, "durable": not route.settings.get("exclusive", False)}
    channel["bindings"] = {"amqp": {"is": "queue", "queue": queue, "bindingVersion": "0.3.0"}}
    binds = [{"exchange": bind[0], "routingKey": bind[1]} for bind in route.settings.get("bind", ())]
    if binds:
        channel["x-bindings"] = binds
    return channel


def _message(address: str | None, schema: Any) -> dict[str, Any]:
    return {"address": address, "messages": {"message": {"payload": schema}}}


def _payload(route: Route) -> Any:
    """Return the type of the body."""
    if route.is_batch:
        return _compile.batch_item(route.function, route.hints)
    for name in _compile.signature(route.function).parameters:
        marker, kind = _compile.marked(route.hints.get(name, Any))
        if marker is None and kind not in (Message, Incoming) and not _is_app(kind):
            return kind
    return Any


def _is_app(kind: Any) -> bool:
    from hopmq.app import Router

    return isinstance(kind, type) and issubclass(kind, Router)


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: C901, PLR0911 - one for each kind of type
    """Return the JSON Schema of a type; named types go into `schemas`."""
    kind = _compile.marked(kind)[1]
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (bytes, Message, Incoming, Any):
        return {}
    if kind in _NAMES:
        return {"type": _NAMES[kind]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, schemas) for each in arguments]}
    if origin in (list, set, frozenset):
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], schemas)}
    if not isinstance(kind, type):
        return {}
    named = {"$ref": f"#/components/schemas/{kind.__name__}"}
    if kind.__name__ in schemas:
        return named
    if hasattr(kind, "model_json_schema"):
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
        return named
    if hasattr(kind, "__struct_fields__"):
        import msgspec

        _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
        schemas.update(components)
        return named
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        schemas[kind.__name__] = {}
        schemas[kind.__name__] = _record(kind, schemas)
        return named
    return {}


def _record(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _schema(each, schemas) for name, each in get_type_hints(kind, include_extras=True).items()}
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        fields = dataclasses.fields(kind)
        needed = [each.name for each in fields if each.default is missing and each.default_factory is missing]
    else:
        import attrs

        needed = [each.name for each in kind.__attrs_attrs__ if each.default is attrs.NOTHING]
    title: str = kind.__name__  # pyright: ignore[reportAttributeAccessIssue]
    return {"type": "object", "title": title, "properties": properties, "required": needed}
