"""Runs the command `python -m genlab.results RUN ...`, which compares runs; see `genlab.reporting.comparison`."""

from genlab.reporting.comparison import main

if __name__ == '__main__':
    main()
