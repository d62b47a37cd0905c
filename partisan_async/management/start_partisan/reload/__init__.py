"""``start_partisan --reload``: a parent watches the code, and a child is the supervisor.

The *parent* starts one *child* after the other. It ends a child when the code changes, and starts
the next one with the code as it is then. The supervisor is in the main thread of the child, where
it ends in order: Django's own ``run_with_reloader()`` has a thread for it that dies anywhere.
"""
