"""Learning network parameters from searched targets, and the SGD baseline."""

from decouple.learn.fitting import Checkpoint, Fit, fit, learn_targets, train_sgd
from decouple.learn.live import LiveSearch
from decouple.learn.objective import CrossEntropy, Regression

__all__ = ["Checkpoint", "CrossEntropy", "Fit", "LiveSearch", "Regression", "fit", "learn_targets", "train_sgd"]
