"""Standard output and error that may be closed, full or unable to show a character, and end no command for it."""

from __future__ import annotations

import io
import os
import sys


class Stream(io.TextIOWrapper):
    """Text as far as it can be written. After the first failure, which `lost` keeps, the rest goes nowhere."""

    lost: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what is buffered goes there, too; Python would complain at its end
        os.close(nowhere)


def guard() -> None:
    """Make the standard streams of this process `Stream`s, and hold the place of those that are closed.

    The next file that is opened would take that place, and get what libraries print.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            held = os.open(os.devnull, os.O_RDONLY)  # to write there fails, as it would if it were closed
            stream = Stream(io.BufferedWriter(io.FileIO(held, "w")), errors="backslashreplace", line_buffering=True)
        elif isinstance(stream, io.TextIOWrapper):
            encoding, by_line, through = stream.encoding, stream.line_buffering, stream.write_through
            # Escapes, for a "×" on a terminal that knows ASCII only, or a file name that is not in its encoding.
            stream = Stream(stream.detach(), encoding, "backslashreplace", None, by_line, through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
