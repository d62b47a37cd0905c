"""What an open page is told: each part of it that has changed, as HTML, in server-sent events."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.template.loader import render_to_string

from example_site.gallery import progress
from example_site.gallery.bell import Bell

MAX_PAGES = 20
"""Kept up to date by this process; any further one is told once, and then asks again."""

ASK_AGAIN_SECONDS = 5
GATHER_SECONDS = 0.2
"""From a ring until it is looked: more may ring by then, and rows follow their signals."""

LOOK_SECONDS = 1.0
"""Without a ring, while tasks are on their way."""

IDLE_SECONDS = 15.0
"""Without a ring, while none is. Something is sent then, so that a lost page is noticed."""

NOTHING = ":\n\n"
"""A comment, which keeps the connection open."""

bell = Bell()


async def changes() -> AsyncGenerator[str, None]:
    """Yield events for one page, for as long as it is open."""
    page = Page()
    if len(bell) >= MAX_PAGES:
        yield f"retry: {1000 * ASK_AGAIN_SECONDS}\n\n"
        yield await sync_to_async(page.look)()
        return
    with bell.heard() as rung:
        while not bell.is_closed:
            rung.clear()  # before the look: what rings during it is looked at again
            yield await sync_to_async(page.look)() or NOTHING
            # A request has a thread of its own, and its connection would stay as long as the page.
            await sync_to_async(close_old_connections)()
            try:
                async with asyncio.timeout(LOOK_SECONDS if page.is_busy else IDLE_SECONDS):
                    await rung.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_SECONDS)


class Page:
    """An open page, and what it has been told."""

    def __init__(self) -> None:
        self.is_busy = False
        self._told: dict[str, Any] = {}

    def look(self) -> str:
        """Return the events of all that has changed; the first time, of all there is."""
        uploads = progress.newest_uploads()
        self.is_busy = not all(upload.ended for upload in uploads)
        return "".join(event for upload in reversed(uploads) for event in self._events(upload))

    def _events(self, upload: progress.UploadShown) -> Iterator[str]:
        name = upload.element_id
        parts = {f"{name}-head": upload.sums, **{each.element_id: each for each in upload.pictures}}
        if f"{name}-head" not in self._told:
            yield _event(name, "uploads", "upload", upload=upload)
        else:
            if self._told[f"{name}-head"] != upload.sums:
                yield _event(f"{name}-head", name, "upload_head", upload=upload)
            for picture in upload.pictures:
                if self._told.get(picture.element_id) != picture:
                    into = f"{name}-pictures"
                    yield _event(picture.element_id, into, "picture", picture=picture)
        self._told |= parts


def _event(element_id: str, into: str, template: str, **context: Any) -> str:
    """Return an event.

    :param into: the id of what it is put into, should it not be there yet.
    """
    html = render_to_string(f"gallery/_{template}.html", context)
    data = json.dumps({"id": element_id, "into": into, "html": html.strip()})
    return f"event: part\ndata: {data}\n\n"
