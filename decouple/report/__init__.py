"""The report of a run: figures, and one page that opens from disk without a network."""

from decouple.report.build import build_report

__all__ = ["build_report"]
