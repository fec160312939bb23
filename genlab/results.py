"""Runs the command `python -m genlab.results RUN ...`, which compares runs; see `genlab.reporting.comparison`."""

from genlab.run import requirements

if __name__ == '__main__':
    requirements.check()

from genlab.reporting.comparison import main
from genlab.run import terminal

if __name__ == '__main__':
    terminal.prepare()
    main()
