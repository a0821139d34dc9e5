"""`python -m hub.cli` is `quarterdeck`."""

from hub.cli.main import main

main()
