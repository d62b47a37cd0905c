"""A gallery that takes in pictures, one task each: the package at work, to read and to run."""
