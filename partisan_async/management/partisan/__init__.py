"""The subcommands of ``manage.py partisan``: each module adds its parsers and runs them."""
