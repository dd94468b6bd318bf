"""The report of a run, and that of a comparison of trajectories."""

from decouple import _backend  # noqa: F401 (before anything imports matplotlib)
from decouple.report.build import build_report
from decouple.report.comparison import answers, write_comparison

__all__ = ["answers", "build_report", "write_comparison"]
