"""`python -m tools.site --profile demo`: write the site of a finished study and print where it is."""

import sys
from collections.abc import Sequence

from tools.command import run_on_study
from tools.site.building import write_site


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a refusal."""
    about = "Write a finished study as web pages that open from disk."
    return run_on_study(lambda *study: print(write_site(*study)), "tools.site", about, arguments)


if __name__ == "__main__":
    sys.exit(main())
