"""What opens something: awaitable, and an async context manager that closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from hopmq._hopmq import Operation
    from hopmq._types import Seconds


class _Closable(Protocol):
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Operation[None]: ...


T = TypeVar("T", bound=_Closable)


class Opening(Generic[T]):
    """An operation that opens something: `await` it, or `async with` it to have it closed at the end."""

    __slots__ = ("_operation", "_value")

    def __init__(self, operation: Operation[T]) -> None:
        """Wrap an operation that has begun."""
        self._operation = operation
        self._value: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait until it is open."""
        return self._operation.__await__()

    def wait(self, timeout: Seconds | None = None) -> T:
        """Wait on this thread until it is open."""
        return self._operation.wait(timeout)

    async def __aenter__(self) -> T:
        """Open it."""
        self._value = await self._operation
        return self._value

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._value is not None:
            await self._value.__aexit__(kind, error, traceback)
