"""SIMULATED subscribers, and a slow network to tell them by. Nothing is sent anywhere."""

import asyncio

ADDRESSES = ("ada@example.org", "grace@example.org", "katherine@example.org")


async def tell(address: str, text: str, *, key: str) -> None:
    """Tell one subscriber.

    :param key: two messages of the same key are one: a task may run twice.
    """
    await asyncio.sleep(0.1 + len(address) / 100)
