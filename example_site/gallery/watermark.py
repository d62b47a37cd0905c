"""A SIMULATED watermark service, that times out now and then. There is no network here.

Whether it times out depends on the picture and the try alone, so that every demo goes the same way
and ends: the first try of every third picture or so, a second one here and there, never a third.
"""

import time
from zlib import crc32

from PIL import Image

from example_site.gallery import images

LATENCY_SECONDS = 0.05
NEVER_TIMES_OUT_AFTER = 2
"""Tries; a task that gives up later than this always succeeds."""


def stamp(image: Image.Image, name: str, *, tries: int) -> Image.Image:
    """Return the picture with its name across it.

    :param tries: how often this was tried before.
    :raises TimeoutError: the service took too long; try again later.
    """
    time.sleep(LATENCY_SECONDS)
    if tries < NEVER_TIMES_OUT_AFTER and crc32(f"{name} {tries}".encode()) % 3 == 0:
        raise TimeoutError("the watermark service did not answer (simulated)")
    return images.stamped(image, f"© {name}")
