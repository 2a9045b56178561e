"""`python -m wsss` is the `wsss` command."""

from wsss.cli import main

main()
