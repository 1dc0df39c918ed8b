"""Opens a page to try the captions: python app.py, and then http://127.0.0.1:7860."""

import sys

from igrag.cli import quiet_start

if __name__ == "__main__":
    quiet_start()  # before the imports that take a while

from igrag.commands.app import command

if __name__ == "__main__":
    sys.exit(command())
