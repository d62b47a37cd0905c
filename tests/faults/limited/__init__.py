"""An app of the fault tests: tasks under limits, and what must be so of their runs."""
