"""The report of a run, and that of a comparison of trajectories."""

from decouple import _backend  # noqa: F401 (before anything imports matplotlib)
from decouple.report.comparison_page import answers, write_comparison
from decouple.report.run_page import build_report

__all__ = ["answers", "build_report", "write_comparison"]
