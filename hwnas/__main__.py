"""`python -m hwnas` is the command `hwnas`."""

from hwnas.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
