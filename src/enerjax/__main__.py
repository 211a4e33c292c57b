"""`python -m enerjax` is `enerjax`."""

from .cli import main

main()
