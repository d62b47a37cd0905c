"""The bridge to Django's own task API: its tasks as rows of ours."""
