"""`decouple` and `python -m decouple`."""

import sys


def main() -> None:
    from decouple.cli import run_command

    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
