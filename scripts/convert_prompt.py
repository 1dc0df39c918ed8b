"""Converts soft prompts to and from PEFT's format: python scripts/convert_prompt.py --help."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it runs a script

import sys
from pathlib import Path

# Python puts this script's folder on the path, not the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from igrag.cli import quiet_start

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.commands.convert_prompt import command

if __name__ == "__main__":
    sys.exit(command())
