"""What Django's task API asks of a backend, as tests that any backend can be put to.

Derive from ``suite.TaskBackendConformance`` and a ``TransactionTestCase``, and say how to run what
is enqueued; ``test_partisan.py`` does it for this project's own backend.
"""
