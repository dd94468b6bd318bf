"""The report of a run, and that of a comparison of trajectories."""

from decouple.report.build import build_report
from decouple.report.comparison import write_comparison

__all__ = ["build_report", "write_comparison"]
