"""``python -m tortie``: the command, where no console script is installed."""

from __future__ import annotations

from tortie.cli.main import main

if __name__ == "__main__":
    main()
