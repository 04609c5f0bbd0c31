"""The command line: ``plait VERB ...``. Importing it loads nothing."""

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run ``plait`` with ``arguments`` (those of the process when omitted).

    Returns:
        0; 2 for what the user can mend, told in one sentence on standard error; 1 for any other error;
        130 when interrupted. With ``PLAIT_DEBUG=1`` errors are raised instead.
    """
    try:
        from plait.cli.verbs import run  # takes a moment, in which Ctrl-C may come
    except KeyboardInterrupt:
        print("plait: interrupted; nothing was changed", file=sys.stderr)
        return 130
    except ImportError as error:
        if os.environ.get("PLAIT_DEBUG") == "1":
            raise
        print(f"plait: {error}; install plait again, with all that it needs", file=sys.stderr)
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)
