"""The parts of ``start_partisan``: its options, and the checks before it starts."""
