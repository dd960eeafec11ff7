"""hwnas: the vision transformer that runs within your budget on your board.

Importing this loads nothing heavy: torch, optuna and ray are imported where they are used.
"""

__version__ = "0.1.0"
