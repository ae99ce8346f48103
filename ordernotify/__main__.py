"""Run the command line as ``python -m ordernotify``."""

from ordernotify.cli import main

if __name__ == "__main__":
    main()
