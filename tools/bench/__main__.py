"""`python -m tools.bench`."""

import sys
from functools import partial

from tools.bench.command import main
from woofkit.__main__ import exit_status

if __name__ == "__main__":
    sys.exit(exit_status(partial(main, sys.argv[1:])))
