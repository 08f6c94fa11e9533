"""`python -m tallybook` runs the command line."""

from .application.interfaces.cli import main

main()
