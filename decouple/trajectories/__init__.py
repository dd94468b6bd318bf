"""Representational trajectories: recording them while a network trains, and comparing them."""

from decouple.trajectories.compare import compare_recordings
from decouple.trajectories.recorder import Recorder
from decouple.trajectories.recording import Recording, check_same_samples

__all__ = ["Recorder", "Recording", "check_same_samples", "compare_recordings"]
