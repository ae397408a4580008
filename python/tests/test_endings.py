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
"""


def run(uri, program, *, interrupt=False, limit=30):
    """Run a program, which prints `ready` before it is interrupted. Return its exit code, output and errors."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(program), uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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
