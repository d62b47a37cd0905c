"""Real faults against running supervisors, and the promise checked on what was recorded of it."""
