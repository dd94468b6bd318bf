"""What a run will cost, before anything runs: counted where it can be, timed on a small sample where it cannot."""

from decouple.estimate.costs import SIZES, Estimate, StageCost, estimate
from decouple.estimate.gpus import GPUS, Gpu
from decouple.estimate.work import Work

__all__ = ["GPUS", "SIZES", "Estimate", "Gpu", "StageCost", "Work", "estimate"]
