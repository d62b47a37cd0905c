"""The running side: one asyncio process that claims tasks and has worker processes run them."""
