"""``python -m agents.experiments``."""

from agents.experiments.command import main

if __name__ == "__main__":
    main()
