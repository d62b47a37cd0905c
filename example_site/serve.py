"""Serves the site: ``python -m example_site.serve --port 8000``; ends at once, open pages too."""

import argparse
import contextlib
import socket

import uvicorn

from example_site.asgi import application
from example_site.gallery import live

GRACE_SECONDS = 1
"""For requests that are under way, when it is told to end."""


class Server(uvicorn.Server):
    """Uvicorn, but what open pages are told ends with it; else it would wait for them to leave."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        live.bell.close()
        await super().shutdown(sockets)


def main() -> None:
    parser = argparse.ArgumentParser("python -m example_site.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    config = uvicorn.Config(
        application,
        host=options.host,
        port=options.port,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with contextlib.suppress(KeyboardInterrupt):  # it ends in order first, and raises it then
        Server(config).run()


if __name__ == "__main__":
    main()
