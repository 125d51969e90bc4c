"""Addresses to listen on."""

from __future__ import annotations

import os
import socket
from typing import Any

from towers.errors import InputError


def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets that nobody can connect to yet, one for each address that the host's name has.

    Raises:
        InputError: There is no such address here, or somebody else listens there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [_bound(family, address) for family, _, _, _, address in dict.fromkeys(found)]
    except socket.gaierror as exc:
        raise InputError(f"cannot listen on {host}: {exc.strerror}; name an address of this machine") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno or 0).lower()
        raise InputError(f"cannot listen on {host}:{port}: {reason}; choose another address or port") from exc


def where(listener: socket.socket) -> dict[str, Any]:
    """What the log says about a socket."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return {"url": f"http://{shown}:{port}", "host": host, "port": port}


def _bound(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not for an address that is in use
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which its connections inherit
    if family == socket.AF_INET6:
        listener.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1
        )  # the other family has a socket of its own
    listener.setblocking(False)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
