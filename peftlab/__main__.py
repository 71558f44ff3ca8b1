"""The command ``peftlab``, and ``python -m peftlab``. Little is imported before Ctrl-C is looked after."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command; Ctrl-C ends it without a traceback, while it is still being imported too."""
    try:
        from peftlab.cli.app import main as run
        from peftlab.core import late_compilation

        late_compilation.begin()  # here and not in the package: a program that imports that keeps its own imports
        run()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left to be put in order while Python ends


if __name__ == "__main__":
    main()
