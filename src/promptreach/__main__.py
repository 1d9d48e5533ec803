"""``python -m promptreach``."""

from promptreach.cli import main

main()
