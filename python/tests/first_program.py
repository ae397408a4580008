"""Runs the first program of the installed package's docstring and README, on the embedded broker.

It is run by `cargo xtask python` in an environment that has nothing but the wheel.
"""

from __future__ import annotations

import faulthandler
import importlib.metadata
import re

import hopmq
from hopmq._hopmq import Broker

LIMIT = 60
"""Seconds after which a program that hangs is ended."""


def first_program(text: str) -> str | None:
    """Return the first block of Python in a page."""
    found = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found and found.group(1)


def main() -> None:
    """Run the programs."""
    package = importlib.metadata.metadata("hopmq")
    readme = package.get("Description") or package.get_payload()
    pages = {"hopmq.__doc__": hopmq.__doc__ or "", "README.md": str(readme)}
    programs = {name: program for name, text in pages.items() if (program := first_program(text))}
    assert programs, "neither the docstring nor the README of hopmq has a program"
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    for name, program in programs.items():
        broker = Broker()
        print(f"running the first program of {name}")
        # The broker of another process would have this address.
        code = compile(program.replace("amqp://localhost", broker.uri), name, "exec")
        exec(code, {"__name__": "__main__"})  # noqa: S102 - it is the package's own page
    faulthandler.cancel_dump_traceback_later()


main()
