"""Several command lines of `peftlab` in one process; each ends as it would by itself, and the last one too."""

from __future__ import annotations

import json
import sys

if __name__ == "__main__":
    from peftlab.cli.app import main

    worst = 0
    for line in json.loads(sys.argv[1]):
        print("$ peftlab", *line, flush=True)
        sys.argv = ["peftlab", *line]
        try:
            main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
            print(f"exit code {code}", flush=True)
            worst = max(worst, code)
    sys.exit(worst)
