"""``python -m peftlab`` is the command ``peftlab``."""

from peftlab.cli.app import main

main()
