"""`python -m onerec.cli`, which `accelerate launch --module` needs."""

import sys

from onerec.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
