"""Draws for the jitter of pauses, in the process that knows of the error: ``policy`` draws none."""

from random import SystemRandom

# Not the module's own generator: a task may have seeded that, and then workers would draw alike.
drawn = SystemRandom().random
"""Return a number from 0 to 1."""
