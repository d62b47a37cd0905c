"""An app whose code is there twice: for this release, and for the one before it."""
