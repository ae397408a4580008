"""Handlers as straight-line coroutines, generated when an app starts.

Owns the step from a function with annotations to the source of a coroutine that reads its arguments, calls it and tells
the outcome. In come functions; out go coroutine functions of one message. It must never run per message.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Any, Union, get_args, get_origin

from hopmq import _decode, _finish, _threads
from hopmq._hopmq import Incoming, Message
from hopmq.depends import AttemptNumber, Depends, Header, Publish, State

_EMPTY = inspect.Parameter.empty


class Source:
    """The source of one handler while it is written."""

    def __init__(self, app: Any, overrides: Mapping[Any, Any], *, is_rpc: bool, is_batch: bool) -> None:
        """Begin an empty source."""
        self.app = app
        self.overrides = overrides
        self.is_rpc = is_rpc
        self.is_batch = is_batch
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []
        self.known: dict[Any, str] = {}
        self.uses_stack = False
        self.making: list[Any] = []

    def name(self, value: Any, prefix: str) -> str:
        """Return the name of a value in the source."""
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def line(self, text: str) -> None:
        """Write a line."""
        self.lines.append(text)

    def arguments(self, function: Callable[..., Any], hints: dict[str, Any]) -> str:
        """Write what reads the arguments of a function, and return them as they stand in the call."""
        read = []
        has_payload = False
        for parameter in signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            expression, is_payload = self.argument(function, parameter, hints.get(parameter.name, _EMPTY), has_payload)
            has_payload = has_payload or is_payload
            if expression is None:
                continue
            keyword = f"{parameter.name}=" if parameter.kind is not parameter.POSITIONAL_ONLY else ""
            read.append(keyword + expression)
        return ", ".join(read)

    def argument(  # noqa: C901, PLR0911 - one case for each place that an argument comes from
        self,
        function: Any,
        parameter: inspect.Parameter,
        kind: Any,
        has_payload: bool,  # noqa: FBT001
    ) -> tuple[str | None, bool]:
        """Return the expression of one argument, and whether it is the body."""
        marker, kind = marked(kind)
        default = parameter.default
        if isinstance(default, (Depends, Header, State)):
            marker, default = default, _EMPTY
        if isinstance(marker, Depends):
            return self.dependency(marker), False
        if isinstance(marker, State):
            return self.state(marker), False
        if self.is_batch and (isinstance(marker, (Header, AttemptNumber)) or kind in (Message, Incoming)):
            message = (
                f"{label(function)}: `{parameter.name}` belongs to one message, and the handler takes batches: take "
                f"list[hopmq.Incoming], whose items have it"
            )
            raise TypeError(message)
        if isinstance(marker, Header):
            return self.header(marker, kind, default), False
        if isinstance(marker, AttemptNumber):
            return "job.attempt", False
        if kind is Message:
            return "job.message", False
        if kind is Incoming:
            return "job", False
        if isinstance(kind, type) and isinstance(self.app, kind) and kind is not object:
            return self.name(self.app, "app"), False
        if has_payload or (kind is _EMPTY and default is not _EMPTY):
            if default is not _EMPTY:
                return None, False
            message = (
                f"{label(function)}: `{parameter.name}` would be a second body: mark where it comes from, as in "
                f"Annotated[…, hopmq.Header(…)] or Annotated[…, hopmq.Depends(…)]"
            )
            raise TypeError(message)
        if kind is _EMPTY:
            message = (
                f"{label(function)}: `{parameter.name}` has no annotation: write the type of the body, such as bytes, "
                f"dict, a dataclass, a Pydantic model, or hopmq.Message"
            )
            raise TypeError(message)
        return self.payload(function, parameter.name, kind), True

    def payload(self, function: Any, name: str, kind: Any) -> str:
        """Return the expression of the body as a type."""
        if self.is_batch:
            return "items"
        key = ("payload", repr(kind), kind if isinstance(kind, type) else None)
        if key in self.known:
            return self.known[key]
        try:
            read, must_be_json = _decode.reader(kind, text_is_json=self.is_rpc)
        except TypeError as error:
            message = f"{label(function)}: `{name}`: {error}"
            raise TypeError(message) from None
        if must_be_json:
            self.check_type("job")
        variable = self.known[key] = f"body{len(self.known)}"
        self.line(f"{variable} = {self.name(read, 'read')}(job.body)")
        return variable

    def check_type(self, job: str, indent: str = "") -> None:
        """Write the check of the content type of a JSON body."""
        is_json, wrong = self.name(_decode.is_json, "is_json"), self.name(_decode.wrong_type, "wrong")
        self.line(f"{indent}kind = {job}.content_type")
        self.line(f"{indent}if kind is not None and kind != 'application/json' and not {is_json}(kind):")
        self.line(f"{indent}    raise {wrong}(kind)")

    def header(self, marker: Header, kind: Any, default: Any) -> str:
        """Write what reads a header, and return its variable."""
        alternatives = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        kinds = tuple(get_origin(each) or each for each in alternatives if each is not type(None))
        if type(None) in alternatives and default is _EMPTY:
            default = None
        variable = self.name(None, "header")
        self.line(f"{variable} = job.header({marker.name!r})")
        self.line(f"if {variable} is None:")
        if default is _EMPTY:
            self.line(f"    raise {self.name(_decode.missing, 'missing')}({marker.name!r})")
        else:
            self.line(f"    {variable} = {self.name(default, 'default')}")
        if kinds and not {Any, object, _EMPTY} & set(kinds):
            expected = self.name(kinds[0] if len(kinds) == 1 else kinds, "type")
            self.line("else:")
            check = self.name(_decode.header, "check")
            self.line(f"    {variable} = {check}({variable}, {expected}, {marker.name!r})")
        return variable

    def state(self, marker: State) -> str:
        """Return the expression of the app's state, or of a part of it."""
        state = self.app.state
        if marker.name is None:
            return self.name(state, "state")
        part = state[marker.name] if isinstance(state, Mapping) else getattr(state, marker.name)
        return self.name(part, "state")

    def dependency(self, marker: Depends) -> str:
        """Write what calls a dependency, once a message, and return its variable."""
        function = self.overrides.get(marker.function, marker.function)
        if marker.cached and function in self.known:
            return self.known[function]
        if function in self.making:
            message = f"{label(function)} depends on itself"
            raise TypeError(message)
        self.making.append(function)
        arguments = self.arguments(function, hints_of(function))
        self.making.pop()
        variable = self.name(None, "dependency")
        if marker.cached:
            self.known[function] = variable
        called = function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__
        if inspect.isasyncgenfunction(called):
            self.uses_stack = True
            make = self.name(asynccontextmanager(function), "make")
            self.line(f"{variable} = await stack.enter_async_context({make}({arguments}))")
        elif inspect.isgeneratorfunction(called):
            self.uses_stack = True
            make = self.name(contextmanager(function), "make")
            self.line(f"{variable} = stack.enter_context({make}({arguments}))")
        elif inspect.iscoroutinefunction(called):
            self.line(f"{variable} = await {self.name(function, 'make')}({arguments})")
        else:
            self.line(f"{variable} = {self.name(function, 'make')}({arguments})")
        return variable

    def call(self, function: Callable[..., Any], hints: dict[str, Any]) -> None:
        """Write the call of the handler."""
        arguments = self.arguments(function, hints)
        name = self.name(function, "handler")
        if is_async(function):
            self.line(f"result = await {name}({arguments})")
        else:
            separator = ", " if arguments else ""
            self.line(f"result = await {self.name(_threads.run, 'thread')}({name}{separator}{arguments})")

    def body(self, indent: str) -> list[str]:
        """Return the lines, within what closes generators if there are any."""
        if not self.uses_stack:
            return [indent + line for line in self.lines]
        stack = self.name(AsyncExitStack, "stack")
        return [f"{indent}async with {stack}() as stack:", *(f"{indent}    {line}" for line in self.lines)]

    def build(self, lines: list[str], name: str) -> Any:
        """Compile the source, and return the function of this name."""
        text = "\n".join(lines)
        namespace = dict(self.names)
        exec(compile(text, f"<hopmq handler {name}>", "exec"), namespace)  # noqa: S102 - made of names only
        return namespace["handle"]


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function."""
    return inspect.signature(function)


def label(function: Any) -> str:
    """Return what a function is called in errors."""
    return getattr(function, "__qualname__", None) or repr(function)


def is_async(function: Any) -> bool:
    """Return whether a call returns a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method is looked at, not called
    )


def hints_of(function: Any, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the annotations of a function as types. `names` are those where it was defined."""
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc] # its annotations are read
    elif not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, localns=dict(names or {}), include_extras=True)
    except NameError as error:
        message = f"{label(function)}: an annotation can't be read: {error}"
        raise TypeError(message) from error


def marked(kind: Any) -> tuple[Any, Any]:
    """Return the marker of an annotation, and its type."""
    if get_origin(kind) is not Annotated:
        return None, kind
    first, *rest = get_args(kind)
    for each in rest:
        if isinstance(each, (Depends, Header, State, AttemptNumber)):
            return each, first
        if each is State:
            return State(), first
    # Others, such as Pydantic's, belong to the type.
    return None, kind if rest else first


def published(kind: Any) -> list[Publish]:
    """Return where a result goes, by its annotation."""
    if get_origin(kind) is not Annotated:
        return []
    return [each for each in get_args(kind)[1:] if isinstance(each, Publish)]


def handler(app: Any, route: Any) -> Any:
    """Return the coroutine function that handles one message, or one batch, of a route."""
    source = Source(app, app.dependency_overrides, is_rpc=route.is_rpc, is_batch=route.is_batch)
    function, hints = route.function, route.hints
    item = batch_item(function, hints) if route.is_batch else None
    source.call(function, hints)
    if route.is_batch:
        return _batch(source, route, item)
    lines = source.body("        ")
    if app.middleware:
        inner = source.build(["async def handle(job):", *source.body("    "), "    return result"], label(function))
        for middleware in reversed(app.middleware):
            inner = around(middleware, inner)
        lines = [f"        result = await {source.name(inner, 'inner')}(job)"]
    fail = source.name(_finish.fault if route.is_rpc else functools.partial(_finish.failed, route.name), "fail")
    text = ["async def handle(job):", "    try:", "        result = None", *lines]
    publishes = published(hints.get("return"))
    if publishes:
        text.append(
            f"        await {source.name(_finish.publish, 'publish')}(job, result, {source.name(publishes, 'to')})"
        )
        text.append(f"        result = {source.name(_finish.outcome_only, 'only')}(result)")
    text += ["    except Exception as error:", f"        {fail}(job, error)", "    else:"]
    if route.is_rpc:
        text.append(f"        {source.name(_finish.reply, 'reply')}(job, result)")
    else:
        text += ["        if result is None:", "            job._ack()", "        else:"]
        text.append(f"            {source.name(functools.partial(_finish.done, route.name), 'done')}(job, result)")
    return source.build(text, label(function))


def around(middleware: Any, inner: Any) -> Any:
    """Return a middleware with what it wraps."""

    async def handle(job: Any) -> Any:
        return await middleware(job, lambda: inner(job))

    return handle


def batch_item(function: Any, hints: dict[str, Any]) -> Any:
    """Return the type of the messages in a batch."""
    for name in signature(function).parameters:
        marker, kind = marked(hints.get(name, _EMPTY))
        if marker is None and get_origin(kind) is list:
            return get_args(kind)[0]
    message = f"{label(function)}: a handler of batches takes a list, such as list[Order] or list[hopmq.Message]"
    raise TypeError(message)


def _batch(source: Source, route: Any, item: Any) -> Any:
    lines = source.body("        ")
    source.lines = []
    if item is Message:
        expression = "job.message"
    elif item is Incoming:
        expression = "job"
    else:
        read, must_be_json = _decode.reader(item)
        if must_be_json:
            source.check_type("job", "            ")
        expression = f"{source.name(read, 'read')}(job.body)"
    finish = source.name(functools.partial(_finish.batch, route.name), "finish")
    text = [
        "async def handle(batch):",
        "    items, unread = [], {}",
        "    for index, job in enumerate(batch.messages):",
        "        try:",
        *source.lines,
        f"            items.append({expression})",
        "        except Exception as error:",
        "            unread[index] = error",
        "    result = None",
        "    if not items:",
        f"        return {finish}(batch, unread, None)",
        "    try:",
        *lines,
        "    except Exception as error:",
        "        result = error",
        f"    {finish}(batch, unread, result)",
    ]
    return source.build(text, route.name)


def service(app: Any, routes: list[Any]) -> Any:
    """Return the coroutine function for the routes of one queue: methods of a service, or a single handler."""
    if len(routes) == 1 and routes[0].method is None:
        return handler(app, routes[0])
    handlers = {route.method: handler(app, route) for route in routes}
    methods = ", ".join(str(route.method) for route in routes if route.method is not None)

    async def handle(job: Any) -> None:
        found = handlers.get(job.kind) or handlers.get(None)
        if found is None:
            text = f"the service '{job.queue}' has no method '{job.kind}'; it has {methods}"
            job._reply(text.encode(), "text/plain; charset=utf-8", "unknown-method")  # noqa: SLF001
            return
        await found(job)

    return handle
