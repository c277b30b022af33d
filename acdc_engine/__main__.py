"""`python -m acdc_engine`: the command `acdc`."""

from acdc_engine.cli import main

main()
