"""Entry: the first module that `bench` imports, so that Ctrl-C while the others load ends in one line, too."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        sys.exit(INTERRUPTED)
