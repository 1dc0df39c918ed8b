"""Captions images: python main.py --i input/802.jpg --model flan-t5."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

import sys

from igrag.cli import quiet_start

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.commands.caption import command

if __name__ == "__main__":
    sys.exit(command())
