"""Learning network parameters from searched targets, and the SGD baseline."""

from decouple.learn.fitting import Checkpoint, Fit, Watch, fit, learn_targets, train_sgd
from decouple.learn.live import LiveSearch
from decouple.learn.objective import CrossEntropy, Regression, regression

__all__ = [
    "Checkpoint",
    "CrossEntropy",
    "Fit",
    "LiveSearch",
    "Regression",
    "Watch",
    "fit",
    "learn_targets",
    "regression",
    "train_sgd",
]
