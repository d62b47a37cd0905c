"""The running side; and here, what a supervisor's process and its workers' have in common."""

import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They stop a supervisor; its workers outlive them."""
