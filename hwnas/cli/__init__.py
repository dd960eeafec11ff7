"""The command line: one file a verb, found by its name, imported only when it is called."""

__all__: list[str] = []
