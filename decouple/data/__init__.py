"""Labelled images, drawn into training, validation, prior and test splits."""

from decouple.data.images import ImageData, Split, as_float
from decouple.data.sources import load_data

__all__ = ["ImageData", "Split", "as_float", "load_data"]
