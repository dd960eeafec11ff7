"""What runs on a board: timing, guards, environment and the agent that a host talks to.

Python 3.9 and later, the standard library, numpy and a runtime; nothing else of hwnas is imported.
"""
