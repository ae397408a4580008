"""The command `hopmq`: runs apps of Python modules.

Owns the processes of one command. In come a module's name, options and signals; out goes an exit code. It must never
know a handler.

`hopmq run module:app --workers 4 --reload` and `hopmq asyncapi module:app`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hopmq import __version__
from hopmq.app import App

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK = 0.5
"""Seconds between looks at changed files and ended processes."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
log = logging.getLogger("hopmq.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, 1 if an app failed, 2 if the arguments are wrong."""
    options = _parser().parse_args(arguments)
    sys.path.insert(0, str(Path(options.directory).resolve()))
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return int(options.command(options))
    except _WrongArgumentsError as error:
        sys.stderr.write(f"hopmq: {error}\n")
        return 2


class _WrongArgumentsError(Exception):
    pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hopmq", description="Runs the handlers of Python modules.")
    parser.add_argument("--version", action="version", version=f"hopmq {__version__} (Python)")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run an app until SIGTERM or ctrl-c, which let its handlers finish")
    run.add_argument("--workers", type=_count, default=1, help="how many processes run the app (1)")
    run.add_argument("--reload", action="store_true", help="start again when a .py file of the directory changes")
    run.add_argument("--uri", help="the broker, in place of the app's")
    run.set_defaults(command=_run)
    asyncapi = commands.add_parser("asyncapi", help="write the AsyncAPI document of an app")
    asyncapi.set_defaults(command=_asyncapi)
    for command in (run, asyncapi):
        command.add_argument("app", help="the module and the name of the app, such as shop.main:app")
        command.add_argument("--directory", default=".", help="where the module is (.)")
        command.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        message = f"must be at least 1, not {text}"
        raise argparse.ArgumentTypeError(message)
    return count


def load(name: str) -> App:
    """Return the app of a module: `module:app`, or `module` if the name of the app is "app"."""
    module, _, attribute = name.partition(":")
    try:
        app: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        message = f"there is no module {error.name!r} in {sys.path[0]}: name it as in `hopmq run shop.main:app`"
        raise _WrongArgumentsError(message) from None
    for part in (attribute or "app").split("."):
        try:
            app = getattr(app, part)
        except AttributeError:
            message = f"the module {module!r} has no {part!r}: name the app as in `hopmq run {module}:app`"
            raise _WrongArgumentsError(message) from None
    if not isinstance(app, App):
        message = f"{name!r} is a {type(app).__name__}, not a hopmq.App"
        raise _WrongArgumentsError(message)
    return app


def _run(options: argparse.Namespace) -> int:
    if options.workers > 1 or options.reload:
        return _Processes(options).run()
    app = load(options.app)
    try:
        return asyncio.run(_serve(app, options.uri))
    except KeyboardInterrupt:
        return 130


async def _serve(app: App, uri: str | None) -> int:
    """Run an app; the first signal stops it, a second one ends it at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_stopped = False

    def stop() -> None:
        nonlocal is_stopped
        if is_stopped and task is not None:
            log.warning("a second signal: the messages in work go back to their queues")
            task.cancel()
            return
        is_stopped = True
        log.info("stopping: handlers may finish")
        app.stop()

    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop)
    try:
        async with app.running(uri) as run:
            log.info("running: %s", ", ".join(app.health()[1]) or "no queues")
            if is_stopped:
                app.stop()
            await run
    except asyncio.CancelledError:
        if not is_stopped:
            raise
        return 130
    except Exception as error:
        log.error("the app ended: %s", error)  # noqa: TRY400 - the sentence says it
        log.debug("where it came from", exc_info=error)
        return 1
    return 0


class _Processes:
    """The processes that run an app."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.is_stopped = False
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        # A name that is wrong is told once, not by each process again and again.
        if not self.options.reload:
            load(self.options.app)
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        self.processes = [self._start() for _ in range(self.options.workers)]
        seen = self._files() if self.options.reload else {}
        result = 0
        while not self.is_stopped:
            time.sleep(_LOOK)
            if self.options.reload and (files := self._files()) != seen:
                seen = files
                log.info("files have changed: starting again")
                self._end()
                if not self.is_stopped:
                    self.processes = [self._start() for _ in range(self.options.workers)]
            elif not self.options.reload and not self.is_stopped:
                ended = [each for each in self.processes if each.poll() is not None]
                if ended and not self.is_stopped:
                    # All share their fate: what restarts the command starts all of them again.
                    result = max(abs(each.returncode) for each in ended) and 1
                    log.error("a worker ended with %s: stopping the others", ended[0].returncode)
                    break
        self._end()
        return max(result, *(int(each.returncode not in (0, -signal.SIGTERM)) for each in self.processes))

    def _stop(self, *_signal: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        self.is_stopped = True

    def _start(self) -> subprocess.Popen[bytes]:
        options = self.options
        command = [sys.executable, "-m", "hopmq.cli", "run", options.app]
        command += ["--directory", options.directory, "--log-level", options.log_level]
        if options.uri:
            command += ["--uri", options.uri]
        # A session of its own: ctrl-c reaches this process only, which then stops the workers.
        return subprocess.Popen(command, start_new_session=os.name == "posix")  # noqa: S603 - this program

    def _end(self) -> None:
        for process in self.processes:
            if process.poll() is None and not self.is_stopped:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait()

    def _files(self) -> dict[Path, int]:
        files = {}
        for path in Path(self.options.directory).rglob("*.py"):
            with contextlib.suppress(OSError):
                files[path] = path.stat().st_mtime_ns
        return files


def _asyncapi(options: argparse.Namespace) -> int:
    from hopmq.asyncapi import document

    json.dump(document(load(options.app)), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
