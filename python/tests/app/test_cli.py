"""The command `hopmq`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hopmq
import hopmq.blocking
from hopmq import cli
from hopmq._hopmq import Broker

PROGRAM = '''
import dataclasses
from typing import Annotated
import hopmq

app = hopmq.App()
app.exchange("shop")

@dataclasses.dataclass
class Order:
    id: int
    note: str | None = None

@app.consumer("orders", bind=("shop", "order.*"))
async def bill(order: Order) -> Annotated[dict, hopmq.Publish("invoices")]:
    """Writes an invoice."""
    print("bill", order.id, flush=True)
    return {"id": order.id}

@app.consumer("invoices")
async def invoices(invoice: dict) -> None:
    print("invoice", invoice["id"], flush=True)

@app.rpc("price")
async def price(order: Order) -> int:
    return 9

other = 1
'''


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "shop_program.py").write_text(PROGRAM)
    return tmp_path


def command(directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(hopmq.__file__).parent.parent)}
    line = [sys.executable, "-m", "hopmq.cli", *arguments, "--directory", str(directory)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines_until(stream: Any, text: str, count: int = 1) -> list[str]:
    """Read lines until `count` have a text."""
    lines = []
    while count:
        line = stream.readline()
        assert line, f"the command ended: {lines}"
        lines.append(line)
        count -= text in line
    return lines


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_runs_an_app_until_a_signal(directory: Path, workers: int) -> None:
    broker = Broker()
    process = command(directory, "run", "shop_program:app", "--uri", broker.uri, "--workers", str(workers))
    lines_until(process.stderr, "running: ", workers)
    with hopmq.blocking.connect(broker.uri) as connection, connection.channel() as channel:
        channel.publish("shop", "order.new", {"id": 7})
    assert lines_until(process.stdout, "invoice 7")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "stopping: handlers may finish" in errors
    broker.settle()
    assert broker.queues()["orders"] == (0, 0)


def test_a_change_of_a_file_starts_the_app_again(directory: Path) -> None:
    broker = Broker()
    process = command(directory, "run", "shop_program:app", "--uri", broker.uri, "--reload")
    lines_until(process.stderr, "running: ")
    (directory / "shop_program.py").write_text(PROGRAM.replace('"orders"', '"orders2"'))
    lines_until(process.stderr, "files have changed")
    assert "orders2" in lines_until(process.stderr, "running: ")[-1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing:app", "there is no module 'nothing'"),
        ("shop_program:nothing", "the module 'shop_program' has no 'nothing'"),
        ("shop_program:other", "'shop_program:other' is a int, not a hopmq.App"),
    ],
)
def test_a_wrong_name_is_told(
    directory: Path, name: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["run", name, "--directory", str(directory)]) == 2
    assert text in capsys.readouterr().err


def test_an_app_that_can_not_connect_ends_with_1(directory: Path) -> None:
    process = command(directory, "run", "shop_program:app", "--uri", "amqp://127.0.0.1:1")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the app ended: " in errors and "127.0.0.1" in errors


def test_the_asyncapi_document_has_queues_bindings_and_schemas(directory: Path) -> None:
    process = command(directory, "asyncapi", "shop_program:app")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    document = json.loads(output)
    assert document["channels"]["orders"]["x-bindings"] == [{"exchange": "shop", "routingKey": "order.*"}]
    assert document["operations"]["receive.orders"]["description"] == "Writes an invoice."
    assert document["operations"]["receive.price"]["reply"]["channel"] == {"$ref": "#/channels/price.reply"}
    assert document["components"]["schemas"]["Order"]["required"] == ["id"]
    assert "send.invoices.bill" in document["operations"]
