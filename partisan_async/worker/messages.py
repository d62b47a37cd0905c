"""Messages between the supervisor and processes that it starts: bytes with file descriptors."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("!I")


def send(control: socket.socket, message: bytes, fds: list[int]) -> None:
    """Send a message with its file descriptors."""
    socket.send_fds(control, [_LENGTH.pack(len(message))], fds)
    control.sendall(message)


def receive(control: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next message and its file descriptors; ``None`` at the end of the stream."""
    header, fds, *_ = socket.recv_fds(control, _LENGTH.size, 4)
    if len(header) < _LENGTH.size:
        return None
    left, parts = _LENGTH.unpack(header)[0], []
    while left:
        parts.append(part := control.recv(left))
        if not part:
            return None
        left -= len(part)
    return b"".join(parts), fds
