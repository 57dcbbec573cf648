"""`python -m k2i_core.cli`: the same as `k2i`."""

from k2i_core.cli.main import main

main()
