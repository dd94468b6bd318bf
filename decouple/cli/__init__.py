"""The command line: what each command takes (`options`, `parsing`), does (`commands`), and how it ends (`entry`)."""

from decouple.cli.entry import run_command
from decouple.cli.options import STAGE_SECTIONS

__all__ = ["STAGE_SECTIONS", "run_command"]
