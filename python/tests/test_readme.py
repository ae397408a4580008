"""The programs of the README, as they are there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import hopmq
import hopmq.blocking
from hopmq.testing import Broker

README = Path(__file__).parents[1] / "README.md"


def test_all_programs_of_the_readme_run(capsys):
    programs = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 6
    names = {}
    for program in programs:
        exec(compile(program, str(README), "exec"), names)  # noqa: S102 - the README is ours
    assert capsys.readouterr().out == "baking margherita\n"
    broker = Broker()

    async def publish_and_consume():
        async with hopmq.connect(broker.uri) as connection, connection.channel() as channel:
            await names["publish_many"](channel)
            await names["consume"](channel)

    asyncio.run(publish_and_consume())
    with hopmq.blocking.connect(broker.uri) as connection, connection.channel() as channel:
        channel.queue("source").publish(b"x", headers={"a": 1})
        names["copy"](broker.uri)
    assert broker.queues()["target"] == (1, 0)
    assert broker.queues()["orders"][0] < 10_000
    names["test_an_order_expires"]()


def test_the_handlers_of_the_readme_run(capsys):
    programs = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (program,) = [program for program in programs if "app.consumer" in program]
    names = {"hopmq": hopmq, "__name__": "shop"}
    exec(compile(program, str(README), "exec", dont_inherit=True), names)  # noqa: S102 - the README is ours
    broker, app, order = Broker(), names["app"], names["Order"]

    async def main():
        async with app.running(broker.uri), hopmq.connect(broker.uri) as connection, connection.channel() as channel:
            await channel.publish("", "orders", {"pizza": "hawaii"})
            await channel.publish("", "orders", {"pizza": "margherita"})
            assert await app.call("price", order("margherita"), returns=float) == 7.5
            async with asyncio.timeout(20):
                while broker.queues()["orders.dlq"] != (1, 0) or broker.queues()["orders"] != (0, 0):
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert capsys.readouterr().out == "baked margherita\n"
    assert broker.ready("orders.dlq")[0].header("x-hopmq-error") == "we do not bake that"
