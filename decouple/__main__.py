"""`decouple` and `python -m decouple`."""

import os
import sys


def main() -> None:
    from decouple.cli import run_command

    try:
        status = run_command(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:  # before the command has begun
        status = 130
    except BrokenPipeError:  # whoever reads, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
