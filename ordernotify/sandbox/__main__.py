"""Run the sandbox as ``python -m ordernotify.sandbox``."""

import sys

from ordernotify.sandbox.app import main

if __name__ == "__main__":
    sys.exit(main())
