"""The parts of ``start_partisan``: its options, and what has to hold before it starts."""
