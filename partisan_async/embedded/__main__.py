"""``python -m partisan_async.embedded``: the command of the embedded server."""

import sys

from partisan_async.embedded import main

sys.exit(main(sys.argv[1:]))
