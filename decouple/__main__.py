"""`decouple` and `python -m decouple`."""

import sys

from decouple import streams


def main() -> None:
    streams.guard()
    status: int | str | None
    try:
        from decouple.cli import run_command

        status = run_command(sys.argv[1:])
    except KeyboardInterrupt:  # before the command has begun
        status = 130
    except SystemExit as stop:  # after --help
        status = stop.code
    sys.stdout.flush()
    if lost := getattr(sys.stdout, "lost", None):
        if not isinstance(lost, BrokenPipeError):  # or whoever reads, such as `head`, has enough
            print(
                f"decouple: standard output cannot be written ({lost.strerror}): what it should show is lost",
                file=sys.stderr,
            )
        status = status or 1
    sys.exit(status)


if __name__ == "__main__":
    main()
