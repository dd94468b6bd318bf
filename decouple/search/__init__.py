"""Per-image, layerwise search over the activations of an untrained network."""

from decouple.search.algorithm import Algorithm, SearchPoint
from decouple.search.engine import BatchResult, Budget, search_batch, search_points
from decouple.search.es import EvolutionStrategy
from decouple.search.gradient import GradientAscent
from decouple.search.judge import Judge
from decouple.search.paper import PaperSearch
from decouple.search.random_search import RandomSearch
from decouple.search.solutions import search_solution, search_solutions
from decouple.search.store import TargetStore

__all__ = [
    "Algorithm",
    "BatchResult",
    "Budget",
    "EvolutionStrategy",
    "GradientAscent",
    "Judge",
    "PaperSearch",
    "RandomSearch",
    "SearchPoint",
    "TargetStore",
    "search_batch",
    "search_points",
    "search_solution",
    "search_solutions",
]
