"""The command line. `main` is the entry point; it imports the commands only when one is about to run."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command in `sys.argv`; errors become one message, a hint and an exit code."""
    from localdistill import LocalDistillError
    from localdistill.cli import app, output

    try:
        app.app()
    except LocalDistillError as error:
        output.fail(error, "--json" in sys.argv)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
