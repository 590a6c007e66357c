"""The process of the service: its socket, and its end."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet: a taken port is found before a model is loaded.

    Raises:
        ValueError: The port is taken or out of range, or the address is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port: expected a number from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was left a moment ago is free
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ValueError(
            f"{host}:{port}: {error.strerror}; expected a free port (--port) of this machine (--host)"
        ) from error
    return bound


class _Server(uvicorn.Server):
    """Before it waits for the requests under way, those that are not being scored are answered."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.service.stop_accepting()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def serve(app: FastAPI, bound: socket.socket, *, grace_seconds: int) -> None:
    """Serve `create_app`'s app until SIGTERM or Ctrl-C.

    Args:
        app: The app.
        bound: What `bind` returned.
        grace_seconds: How long to wait for the requests under way at the end.

    Raises:
        OSError: Another process began to listen on the port.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace_seconds)
    with _returns_after_signals():
        _Server(config).run([bound])


@contextlib.contextmanager
def _returns_after_signals() -> Iterator[None]:
    """Uvicorn sends itself the signal again when it is done: here that does nothing, so that `serve` returns."""

    def nothing(*_: Any) -> None: ...

    before = {number: signal.signal(number, nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
