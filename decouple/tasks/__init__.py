"""What networks learn: each task joins its data, its networks and its losses for everything that trains a population."""

from decouple.tasks.base import Task
from decouple.tasks.images import ImageTask

__all__ = ["ImageTask", "Task"]
