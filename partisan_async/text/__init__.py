"""Turns values into text: for people, log handlers, and columns that cannot hold every text."""
