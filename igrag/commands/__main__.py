"""Runs `python -m igrag.commands` as the installed `igrag`."""

import sys

from igrag.commands import main

sys.exit(main())
