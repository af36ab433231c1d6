"""Lets ``python -m ha_agent`` behave as the ``ha-agent`` command."""

import sys

from ha_agent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
