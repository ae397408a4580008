"""Apps: functions that handle the messages of queues.

Owns the handlers of an app and the tasks that run them. In come functions with their queues; out goes one run. It must
never decide what happens with a message: the native module does, as the workers in Rust do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hopmq import _compile, _hopmq, _loops, retry
from hopmq._connect import DEFAULT_URI, connect
from hopmq._tasks import Tasks
from hopmq._watch import Watch
from hopmq.rpc import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from hopmq._types import Seconds

    Middleware = Callable[[_hopmq.Incoming, Callable[[], Awaitable[Any]]], Awaitable[Any]]

Function = TypeVar("Function", bound="Callable[..., Any]")

log = logging.getLogger("hopmq.app")
_TURN = 256
"""After how many jobs a worker lets other tasks of the loop run."""
_CALLS = 64
"""How many calls of a service are carried out at once, unless its declaration says otherwise."""


@dataclass(frozen=True, slots=True)
class Route:
    """A function and the queue whose messages it handles."""

    queue: str
    function: Callable[..., Any]
    settings: dict[str, Any]
    hints: dict[str, Any]
    is_batch: bool = False
    is_rpc: bool = False
    method: str | None = None

    @property
    def name(self) -> str:
        """What the handler is called in logs."""
        return _compile.label(self.function)

    @property
    def tasks(self) -> int:
        """How many workers it can keep busy."""
        at_once = self.settings.get("concurrency") or (_CALLS if self.is_rpc else 1)
        return int(at_once) * int(self.settings.get("partitions") or 1)


class Router:
    """Handlers that an app includes: a module of a large program has its own."""

    def __init__(self) -> None:
        """Begin without handlers."""
        self.routes: list[Route] = []
        self.exchanges: list[tuple[str, str, bool, str, Any]] = []

    def consumer(self, queue: str = "", **settings: Any) -> Callable[[Function], Function]:
        """Handle the messages of a queue, which is declared when the app runs.

        Settings: `bind`, `concurrency` (1), `prefetch`, `retry`, `retry_class` (by class of exception), `dead_letter`
        (True: the queues `<queue>.dlq` and `<queue>.parked`; False: the queue's own dead-letter exchange; or a queue's
        name), `delivery_limit`, `quorum`, `classic`, `exclusive`, `auto_delete`, `single_active_consumer`, `batch`,
        `rate_limit`, `breaker`, `ordered_by` (the name of a header, or a function of the message), `group`,
        `partitions`, `priority`, `consumer_tag`, `existing` ("refuse", "adopt", "require"), `body_limit`,
        `broker_retry`, `arguments`, `consumer_arguments`.

        Without a queue, `bind` subscribes: with `group` to the queue `<exchange>.<group>`, else to a queue of this
        program alone.
        """
        return self._decorate(queue, settings, _names(sys._getframe(1)))  # noqa: SLF001

    def rpc(self, service: str, *, method: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Answer the calls of a service: what the function returns is the reply.

        With `method`, only the calls of this method, so that a service may have several.
        """
        names = _names(sys._getframe(1))  # noqa: SLF001
        return self._decorate(service, settings, names, is_rpc=True, method=method)

    def exchange(
        self,
        name: str,
        kind: str = "topic",
        *,
        durable: bool = True,
        existing: str = "refuse",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Declare an exchange when the app runs."""
        self.exchanges.append((name, kind, durable, existing, arguments))

    def include(self, router: Router) -> None:
        """Add the handlers and exchanges of a router."""
        self.routes.extend(router.routes)
        self.exchanges.extend(router.exchanges)

    def _decorate(
        self, queue: str, settings: dict[str, Any], names: dict[str, Any], **more: Any
    ) -> Callable[[Function], Function]:
        if not isinstance(queue, str):
            message = f'the queue must be a str, not {type(queue).__name__}: write @app.consumer("orders")'
            raise TypeError(message)
        read = retry.settings(settings)

        def decorate(function: Function) -> Function:
            hints = _compile.hints_of(function, names)
            self.routes.append(Route(queue, function, read, hints, is_batch="batch" in read, **more))
            return function

        return decorate


def _names(frame: Any) -> dict[str, Any]:
    """Return the names that annotations may use where a handler is defined in a function."""
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


class App(Router):
    """Queues with their handlers.

    ```python
    app = hopmq.App("amqp://localhost")

    @app.consumer("orders", concurrency=50, retry=hopmq.Retry(5, backoff="1s..10m"))
    async def bill(order: Order) -> None:
        ...

    asyncio.run(app.run())
    ```

    `lifespan` is a function of the app that returns an async context manager, which is open while the app runs; what it
    yields is `app.state`. `connection` are settings of `hopmq.connect`.
    """

    def __init__(
        self,
        uri: str = DEFAULT_URI,
        *,
        middleware: Iterable[Middleware] = (),
        lifespan: Callable[[App], AbstractAsyncContextManager[Any]] | None = None,
        drain_timeout: Seconds = 30,
        block_warning: float | None = 1.0,
        **connection: Any,
    ) -> None:
        """Make an app, which does nothing before it runs.

        `drain_timeout` is how long handlers may go on after a stop; `block_warning` after how many seconds without a
        turn of the event loop the log tells which handler blocks it, or `None` for never.
        """
        super().__init__()
        self.uri = uri
        self.middleware = list(middleware)
        self.lifespan = lifespan
        self.state: Any = None
        self.dependency_overrides: dict[Any, Any] = {}
        self.connection: _hopmq.Connection | None = None
        self._settings = connection
        self._drain = drain_timeout
        self._block_warning = block_warning
        self._native: _hopmq.App | None = None
        self._client: Client | None = None
        self._handlers: list[Any] = []
        self._free = self._count = self._limit = 0

    async def run(self, uri: str | None = None) -> None:
        """Run until `stop` is called, or the app fails. Declares exchanges, queues and bindings first.

        `AppError` if a declaration is refused or contradicts itself; the connection's errors if it ends. Cancelling it
        gives the messages in work back to their queues.
        """
        async with self.running(uri) as run:
            await run

    @contextlib.asynccontextmanager
    async def running(self, uri: str | None = None) -> AsyncGenerator[Awaitable[None]]:
        """Run beside other code, such as a web framework's: `async with app.running(): ...`.

        The block begins when the queues are declared; the app is stopped at its end. What is yielded can be awaited for
        the end of the run.
        """
        if self._native is not None:
            message = "this app runs already"
            raise RuntimeError(message)
        async with contextlib.AsyncExitStack() as stack:
            # The place is taken before the first await.
            stack.callback(self._clear)
            native = self._native = self._build()
            connection = await stack.enter_async_context(connect(uri or self.uri, **self._settings))
            self.connection = connection
            if self.lifespan is not None:
                self.state = await stack.enter_async_context(self.lifespan(self))
            self._handlers = self._compiled()
            tasks = await stack.enter_async_context(Tasks())
            if self._block_warning is not None:
                stack.enter_context(Watch(self._block_warning))
            self._limit, self._count, self._free = sum(route.tasks for route in self.routes), 0, 0
            self._hire(native, tasks)
            run = tasks.start(native.run(connection))
            await run.either(native.declared())
            try:
                yield run
            finally:
                native.stop()
                await run

    def stop(self) -> None:
        """Take no more messages, and let `run` end when those in work are done. Any thread may call it."""
        if self._native is not None:
            self._native.stop()

    def pause(self, queue: str) -> bool:
        """Take no more messages of a queue. Returns whether the app has the queue."""
        return self._native is not None and self._native.pause(queue)

    def resume(self, queue: str) -> bool:
        """Take messages of a paused queue again. Returns whether the app has the queue."""
        return self._native is not None and self._native.resume(queue)

    def health(self) -> tuple[bool, dict[str, str]]:
        """Return whether the app is connected, and each queue's state, such as "consuming" or "paused"."""
        if self._native is None:
            return False, {}
        connected, queues = self._native.health()
        return connected, dict(queues)

    async def call(self, service: str, argument: object = None, **settings: Any) -> Any:
        """Call a service on the app's connection: see `hopmq.rpc.Client.call`."""
        if self.connection is None:
            message = "the app does not run: call within a handler, or open hopmq.rpc.Client on a connection"
            raise RuntimeError(message)
        if self._client is None:
            self._client = await Client.open(self.connection)
        return await self._client.call(service, argument, **settings)

    async def declare(self, uri: str | None = None) -> None:
        """Declare exchanges, queues and bindings as `run` does, and run nothing: for a deployment."""
        async with connect(uri or self.uri, **self._settings) as connection:
            await self._build().declare(connection)

    def _clear(self) -> None:
        self._native = self.connection = self._client = None
        self._handlers = []

    def _served(self) -> list[list[Route]]:
        """Return the routes by queue: methods of one service share theirs."""
        served: dict[tuple[str, bool] | int, list[Route]] = {}
        for index, route in enumerate(self.routes):
            served.setdefault((route.queue, True) if route.is_rpc else index, []).append(route)
        return list(served.values())

    def _build(self) -> _hopmq.App:
        routes = []
        for group in self._served():
            settings = {name: value for route in group for name, value in route.settings.items()}
            routes.append((group[0].queue, settings, group[0].is_batch, group[0].is_rpc))
        return _hopmq.App(self.exchanges, routes, self._drain)

    def _compiled(self) -> list[Any]:
        return [_compile.service(self, group) for group in self._served()]

    def _hire(self, native: _hopmq.App, tasks: Tasks) -> None:
        """Start one worker more."""
        self._count += 1
        self._free += 1
        tasks.start(self._work(native, tasks))

    async def _work(self, native: _hopmq.App, tasks: Tasks) -> None:
        """Work on one job after the other. Handlers that do not suspend need no other worker."""
        pull, handlers = native.pull, self._handlers
        left = _TURN
        while True:
            job = pull()
            if job is None:
                if not await native.arrival():
                    return
                continue
            self._free -= 1
            if not self._free and self._count < self._limit:
                # The others are in handlers that may be suspended.
                self._hire(native, tasks)
            try:
                await handlers[job._route](job)  # noqa: SLF001
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # The handler awaited something that was cancelled.
                job._fail("retry", "CancelledError", "the handler was cancelled")  # noqa: SLF001
            except Exception as error:
                # The outcome itself was wrong, such as a wait that is no time.
                log.exception("a handler of %s has no outcome", job.queue)
                with contextlib.suppress(RuntimeError):
                    job._fail("retry", type(error).__name__, str(error))  # noqa: SLF001
            self._free += 1
            left -= 1
            if not left:
                left = _TURN
                await _loops.breathe()
