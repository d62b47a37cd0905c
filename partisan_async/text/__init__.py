"""Turns values into text: for people, for log handlers, and for columns that cannot hold any."""
