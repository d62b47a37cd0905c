"""The supervisor's side of worker processes: starts, feeds, replaces and ends them."""
