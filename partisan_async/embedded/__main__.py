import sys

from partisan_async.embedded import main

sys.exit(main(sys.argv[1:]))
