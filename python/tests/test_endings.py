"""How programs end: signals, forks, closed loops, an interpreter that shuts down. Each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

HEAD = """
import asyncio, os, signal, sys, threading, time
import hopmq, hopmq.blocking
uri = sys.argv[1]
# A process that was started in the background may have been told to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run(uri, program, *, interrupt=False, limit=30):
    """Run a program, which prints `ready` before it is interrupted. Return its exit code, output and errors."""
    command = [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(program), uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if interrupt:
                assert process.stdout.readline() == "ready\n", process.communicate()[1]
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=limit)
        finally:
            process.kill()
    return process.returncode, output, errors


def test_a_program_that_leaves_everything_open_ends(uri):
    code, output, errors = run(
        uri,
        """
        async def main():
            global connection, messages
            connection = await hopmq.connect(uri)
            channel = await connection.channel()
            queue = await channel.queue("q")
            messages = await queue.consume()
            await queue.publish(b"x")
            print((await anext(messages)).body)
        asyncio.run(main())
        """,
    )
    assert (code, output, errors) == (0, "b'x'\n", "")


def test_ctrl_c_ends_a_wait_of_a_thread(uri):
    code, _, errors = run(
        uri,
        """
        with hopmq.blocking.connect(uri) as connection, connection.channel() as channel:
            with channel.queue("q").consume() as messages:
                print("ready", flush=True)
                for message in messages:
                    pass
        """,
        interrupt=True,
    )
    assert "KeyboardInterrupt" in errors
    assert code != 0


def test_ctrl_c_ends_an_async_program(uri):
    code, _, errors = run(
        uri,
        """
        async def main():
            async with hopmq.connect(uri) as connection, connection.channel() as channel:
                queue = await channel.queue("q")
                async with queue.consume() as messages:
                    print("ready", flush=True)
                    async for message in messages:
                        pass
        asyncio.run(main())
        """,
        interrupt=True,
    )
    assert "KeyboardInterrupt" in errors
    assert code != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_told(uri):
    code, output, errors = run(
        uri,
        """
        connection = hopmq.blocking.connect(uri)
        channel = connection.channel()
        queue = channel.queue("q")
        child = os.fork()
        if child == 0:
            try:
                queue.publish(b"x")
            except hopmq.UsageError as error:
                print(error)
                sys.stdout.flush()
                with hopmq.blocking.connect(uri) as own, own.channel() as channel:
                    channel.queue("own")
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        queue.publish(b"parent")
        connection.close()
        """,
    )
    assert code == 0, errors
    assert "fork" in output


def test_a_loop_that_is_closed_disturbs_nothing(uri):
    code, output, errors = run(
        uri,
        """
        async def first():
            connection = await hopmq.connect(uri)
            channel = await connection.channel()
            queue = await channel.queue("q")
            messages = await queue.consume()
            waiting = asyncio.ensure_future(messages.__anext__().__await__ and hop(messages))
            await asyncio.sleep(0.05)
            return queue, messages
        async def hop(messages):
            return await anext(messages)
        async def second(queue, messages):
            await queue.publish(b"x")
            print((await anext(messages)).body)
        queue, messages = asyncio.run(first())
        time.sleep(0.1)
        asyncio.run(second(queue, messages))
        """,
    )
    assert (code, output, errors) == (0, "b'x'\n", "")


def test_a_process_that_is_busy_keeps_its_connection(uri):
    """The heartbeats are not Python's business."""
    code, output, errors = run(
        uri,
        """
        async def main():
            async with hopmq.connect(uri, heartbeat=1, recovery=False) as connection, connection.channel() as channel:
                queue = await channel.queue("q")
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    sum(range(100000))
                await queue.publish(b"x")
                print("alive")
        asyncio.run(main())
        """,
    )
    assert (code, output, errors) == (0, "alive\n", "")


def test_a_process_that_holds_the_gil_keeps_its_connection(uri):
    """No other thread of Python runs for four heartbeats."""
    code, output, errors = run(
        uri,
        """
        import ctypes
        async def main():
            async with hopmq.connect(uri, heartbeat=1, recovery=False) as connection, connection.channel() as channel:
                queue = await channel.queue("q")
                ctypes.PyDLL(None).sleep(4)
                await queue.publish(b"x")
                print("alive")
        asyncio.run(main())
        """,
    )
    assert (code, output, errors) == (0, "alive\n", "")


@pytest.mark.parametrize("ending", ["sys.exit(0)", "sys.exit(3)", "raise SystemExit", "os._exit(0)", "pass"])
def test_a_program_ends_with_connections_of_threads_open(uri, ending):
    code, output, errors = run(
        uri,
        f"""
        connection = hopmq.blocking.connect(uri)
        channel = connection.channel()
        queue = channel.queue("q")
        messages = queue.consume()
        threading.Thread(target=messages.next, daemon=True).start()
        events = connection.events()
        threading.Thread(target=lambda: list(events), daemon=True).start()
        time.sleep(0.1)
        {ending}
        """,
    )
    assert (code, output, errors) == (3 if "3" in ending else 0, "", "")


def test_a_trio_program_that_leaves_everything_open_ends(uri):
    code, output, errors = run(
        uri,
        """
        import trio
        async def main():
            global connection, messages
            connection = await hopmq.connect(uri)
            channel = await connection.channel()
            queue = await channel.queue("q")
            messages = await queue.consume()
            with trio.move_on_after(0.05):
                await anext(messages)
            print("done")
        trio.run(main)
        """,
    )
    assert (code, output, errors) == (0, "done\n", "")


def test_ctrl_c_ends_a_trio_program(uri):
    code, _, errors = run(
        uri,
        """
        import trio
        async def main():
            async with hopmq.connect(uri) as connection, connection.channel() as channel:
                queue = await channel.queue("q")
                async with queue.consume() as messages:
                    print("ready", flush=True)
                    async for message in messages:
                        pass
        trio.run(main)
        """,
        interrupt=True,
    )
    assert "KeyboardInterrupt" in errors
    assert code != 0


def test_handles_work_after_a_ctrl_c(uri):
    code, output, errors = run(
        uri,
        """
        with hopmq.blocking.connect(uri) as connection, connection.channel() as channel:
            queue = channel.queue("q")
            with queue.consume() as messages:
                try:
                    print("ready", flush=True)
                    messages.next()
                except KeyboardInterrupt:
                    print("interrupted")
                queue.publish(b"x")
                print(messages.next(10).body)
        """,
        interrupt=True,
    )
    assert (code, output, errors) == (0, "interrupted\nb'x'\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_ends_and_disturbs_its_parent_in_nothing(uri):
    """The child drops its copies of all handles, while an asyncio program of its own runs."""
    code, output, errors = run(
        uri,
        """
        connection = hopmq.blocking.connect(uri)
        channel = connection.channel()
        queue = channel.queue("q")
        messages = queue.consume()
        child = os.fork()
        if child == 0:
            async def main():
                async with hopmq.connect(uri) as connection, connection.channel() as channel:
                    await channel.publish("", "q", b"from the child")
            asyncio.run(main())
            for wait in (messages.next, channel.close, connection.close, lambda: queue.publish_later(b"").wait()):
                try:
                    wait()
                except hopmq.Error as error:
                    assert "fork" in str(error), error
                else:
                    raise AssertionError(wait)
            del messages, queue, channel, connection
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        message = messages.next(10)
        message.ack()
        print(message.text())
        connection.close()
        """,
    )
    assert (code, output, errors) == (0, "from the child\n", "")
