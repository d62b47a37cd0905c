"""A TCP relay between a client and the server, to be a bad network with."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

# Of the protocol's messages Parse and Bind, with the names that psycopg gives.
PREPARE = re.compile(rb"P.{4}(_pg3_\d+)\0([^\0]*)\0", re.DOTALL)
RUN = re.compile(rb"B.{4}\0(_pg3_\d+)\0", re.DOTALL)


class Relay:
    """Passes on what comes, until it is told otherwise.

    ``open.clear()`` makes it a black hole: the connections stand, new ones are taken, and nobody
    answers; ``open.set()`` has all go on, and what was under way arrives.

    :param target: host, or the folder of a unix socket, and port.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.open = threading.Event()
        self.open.set()
        self.lost_answers = 0
        """How many answers ``lose_answers`` has lost so far."""
        self._target = target
        self._lock = threading.Lock()
        self._to_lose = 0
        self._matching = self._connection = b""
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answers(
        self, count: int = 1, *, matching: bytes = b"", connection: bytes = b""
    ) -> None:
        """Lose the next answers: the server gets what is sent, and then the connection is cut.

        :param matching: only to statements with these bytes in them, also to prepared ones, when
            they are run.
        :param connection: only on connections whose application_name has these bytes in it.
        """
        with self._lock:
            self._to_lose, self._matching, self._connection = count, matching, connection

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            _shut(each)

    def close(self) -> None:
        """End all connections, and take none."""
        self._listener.close()
        self.open.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:  # as when the server itself refuses
                client.close()
                continue
            link = _Link()
            with self._lock:
                self._sockets |= {client, server}
            for source, sink, asks in ((client, server, True), (server, client, False)):
                arguments = (source, sink, link, asks)
                threading.Thread(target=self._relay, args=arguments, daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host or "localhost", port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server

    def _relay(self, source: socket.socket, sink: socket.socket, link: _Link, asks: bool) -> None:
        try:
            while data := source.recv(65536):
                self.open.wait()
                if asks:
                    self._mark(link, link.in_full(data))
                elif link.doomed:
                    break
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                _shut(end)  # wakes the thread of the other direction
            with self._lock:
                link.open_directions -= 1
                if not link.open_directions:  # closed earlier, its number could be another's by now
                    self._sockets -= {source, sink}
                    source.close()
                    sink.close()

    def _mark(self, link: _Link, data: bytes) -> None:
        if not link.startup and b"application_name\0" in data:
            link.startup = data
            return
        with self._lock:
            if not self._to_lose or link.doomed or self._matching not in data:
                return
            if self._connection in link.startup:
                self._to_lose -= 1
                self.lost_answers += 1
                link.doomed = True


class _Link:
    """The two directions of one connection."""

    def __init__(self) -> None:
        self.doomed = False
        self.startup = b""
        self.open_directions = 2
        self._prepared: dict[bytes, bytes] = {}

    def in_full(self, data: bytes) -> bytes:
        """Return what is asked, with the text of prepared statements where they are run."""
        data = PREPARE.sub(self._note, data)
        return data + b"".join(self._prepared[name] for name in RUN.findall(data))

    def _note(self, message: re.Match[bytes]) -> bytes:
        name, text = message.groups()
        self._prepared[name] = text
        return b""


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
