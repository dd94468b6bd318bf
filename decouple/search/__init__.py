"""Per-image, layerwise search over the activations of an untrained network."""

from decouple.search.algorithm import Algorithm, SearchPoint
from decouple.search.engine import BatchResult, judge, search_batch, search_points
from decouple.search.es import EvolutionStrategy
from decouple.search.paper import PaperSearch
from decouple.search.solutions import search_solution
from decouple.search.store import TargetStore

__all__ = [
    "Algorithm",
    "BatchResult",
    "EvolutionStrategy",
    "PaperSearch",
    "SearchPoint",
    "TargetStore",
    "judge",
    "search_batch",
    "search_points",
    "search_solution",
]
