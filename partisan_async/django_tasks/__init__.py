"""The bridge to Django's own task API: stores its tasks as our rows, and runs them."""
