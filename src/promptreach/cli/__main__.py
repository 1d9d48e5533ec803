"""``python -m promptreach.cli``."""

from promptreach.cli import main

main()
