"""Calls of services.

Owns the step from values to bodies and back. In come arguments and the type of the result; out go results, or faults
as exceptions. It must never know a queue other than by its name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hopmq import _decode, _finish
from hopmq._hopmq import Caller, Connection
from hopmq.errors import CallFailed, DecodeError, Fault
from hopmq.outcomes import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from hopmq._types import Seconds


Result = TypeVar("Result")


class Client:
    """Calls services: any number of calls at once, over one channel of a connection.

    ```python
    client = await hopmq.rpc.Client.open(connection)
    quote = await client.call("price", Query(pizza="margherita"), returns=Quote, timeout="300ms")
    ```
    """

    def __init__(self, caller: Caller) -> None:
        """Take the native client."""
        self._caller = caller
        self._readers: dict[Any, Callable[[bytes], Any]] = {}

    @classmethod
    async def open(cls, connection: Connection) -> Client:
        """Open a channel for calls."""
        return cls(await Caller.open(connection))

    @overload
    async def call(
        self,
        service: str,
        argument: object = None,
        *,
        returns: type[Result],
        method: str | None = None,
        timeout: Seconds | None = None,  # noqa: ASYNC109
    ) -> Result: ...

    @overload
    async def call(
        self,
        service: str,
        argument: object = None,
        *,
        method: str | None = None,
        timeout: Seconds | None = None,  # noqa: ASYNC109
    ) -> Any: ...

    async def call(
        self,
        service: str,
        argument: object = None,
        *,
        returns: Any = Any,
        method: str | None = None,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - it travels to the server as the deadline of the call
    ) -> Any:
        """Call a method, the one with the service's name unless set, and return its result as the type `returns`.

        `NoServer` if there is no server; `Timeout` after 30 seconds, unless `timeout` says otherwise; `CallFailed` with
        the error that the method returned; `Fault` if the server could not carry out the call; `OutcomeUnknown` if the
        link was lost meanwhile. Cancelling forgets the call, which may be carried out.
        """
        body, content_type = _finish.encode(argument)
        reply, fault = await self._caller.call(service, method or service, body, content_type, timeout)
        if fault is None:
            return self._read(reply.body, returns)
        if fault == "failed":
            raise CallFailed(json.loads(reply.body))
        raise Fault(fault, reply.text())

    @property
    def in_flight(self) -> int:
        """How many calls wait for their replies."""
        return self._caller.in_flight

    def _read(self, body: bytes, kind: Any) -> Any:
        reader = self._readers.get(kind)
        if reader is None:
            reader = self._readers[kind] = _decode.reader(kind, text_is_json=True)[0]
        try:
            return reader(body)
        except Reject as error:
            message = f"can't read the result: {error.text}"
            raise DecodeError(message, "Decode") from error
