"""Hosts on a network of their own: namespaces of the kernel's, joined by a bridge.

A *host* has a network namespace with one interface and, for what is started on it, a name of its
own. The *switch* is a namespace too: it has the bridge, and the database server, which listens on
the bridge's address and nowhere else. Nothing of it is in this machine's own network.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from partisan_async.embedded import EmbeddedPostgres

NETWORK = "198.51.100"
"""For documentation, and so nobody's; each switch has it for itself, and no way leads out of it."""

_CLONE_NEWNET = 0x40000000


class CannotMakeHostsError(RuntimeError):
    """This machine does not let us; the message says why."""


class Switch:
    """The network, for a ``with`` block; ``host()`` joins one to it."""

    address = f"{NETWORK}.1"

    def __init__(self) -> None:
        # Others may run the same test, and names of namespaces are the machine's.
        self._name = f"partisan-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._hosts = 0
        self._stack = ExitStack()

    def __enter__(self) -> Switch:
        if not shutil.which("ip"):
            raise CannotMakeHostsError("there is no `ip`: install iproute2")
        _sweep()
        with self._stack:
            self._add_namespace(self._name)
            self.ip("link", "add", "bridge", "type", "bridge")
            self.ip("address", "add", f"{self.address}/24", "dev", "bridge")
            self.ip("link", "set", "bridge", "up")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def host(self) -> Host:
        """Join another host."""
        self._hosts += 1
        address = f"{NETWORK}.{self._hosts + 1}"
        host = Host(self, f"{self._name}-{self._hosts}", f"port{self._hosts}", address)
        self._add_namespace(host.name)
        link = ("type", "veth", "peer", "name", "eth0", "netns", host.name)
        self.ip("link", "add", host.port, *link)
        self.ip("link", "set", host.port, "master", "bridge", "up")
        self.ip("address", "add", f"{address}/24", "dev", "eth0", on=host.name)
        self.ip("link", "set", "eth0", "up", on=host.name)
        self.ip("link", "set", "lo", "up", on=host.name)
        return host

    def ip(self, *words: str, on: str | None = None) -> None:
        """Run ``ip`` in a namespace: the switch's own, if no other is named."""
        _ip("-n", on or self._name, *words)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread, and what it starts, be in the switch's network."""
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{self._name}") as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        # With it go its interfaces, and their other ends.
        self._stack.callback(_ip, "netns", "delete", name)


class Host:
    """One host.

    :param port: its interface on the switch.
    """

    def __init__(self, switch: Switch, name: str, port: str, address: str) -> None:
        self.name = name
        self.address = address
        self.port = port
        self._switch = switch

    @property
    def launcher(self) -> tuple[str, ...]:
        """Words before a command that is to run on it, as the same process."""
        name = 'hostname "$0" && exec "$@"'
        unshare = ("unshare", "--uts", "sh", "-c", name, self.name)
        return ("ip", "netns", "exec", self.name, *unshare)

    def cut_off(self) -> None:
        """Pull its cable out of the switch: nothing comes or goes, and nobody is told."""
        self._switch.ip("link", "set", self.port, "down")

    def let_in(self) -> None:
        """Plug it in again."""
        self._switch.ip("link", "set", self.port, "up")


class LanPostgres(EmbeddedPostgres):
    """A server that hosts on a switch can reach, and nobody else."""

    def __init__(self, switch: Switch, *, settings: dict[str, str]) -> None:
        super().__init__(settings=settings)
        self._switch = switch

    def start(self) -> None:
        with self._switch.entered():
            super().start()

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        with self._switch.entered():
            super().restart(mode)

    def _launch(self) -> None:
        access = self._home / "data" / "pg_hba.conf"
        if NETWORK not in (text := access.read_text()):
            access.write_text(f"{text}host all all {NETWORK}.0/24 trust\n")
        super()._launch()

    def _spawn(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        if program == "postgres":
            options = (*options, f"--listen_addresses={self._switch.address}")
        return super()._spawn(program, *options)


def _enter(namespace: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise CannotMakeHostsError(f"`ip {' '.join(words)}`: {done.stderr.strip()}")
    return done.stdout


def _sweep() -> None:
    """Remove what killed tests left."""
    for line in _ip("netns", "list").splitlines():
        match = re.match(r"partisan-(\d+)-", line)
        if match and not Path(f"/proc/{match[1]}").exists():
            _ip("netns", "delete", line.split()[0])
