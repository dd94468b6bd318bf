"""Per-image, layerwise search over the activations of an untrained network."""

from decouple.networks.factored import Factored, Mix
from decouple.registry import register
from decouple.search.algorithm import Algorithm, SearchPoint
from decouple.search.engine import BatchResult, Budget, search_batch, search_points
from decouple.search.es import EvolutionStrategy
from decouple.search.gradient import GradientAscent
from decouple.search.judge import Judge
from decouple.search.paper import PaperSearch
from decouple.search.random_search import RandomSearch
from decouple.search.solutions import search_solution, search_solutions
from decouple.search.store import TargetStore
from decouple.workers import Execution

__all__ = [
    "Algorithm",
    "BatchResult",
    "Budget",
    "EvolutionStrategy",
    "Execution",
    "Factored",
    "GradientAscent",
    "Judge",
    "Mix",
    "PaperSearch",
    "RandomSearch",
    "SearchPoint",
    "TargetStore",
    "register",
    "search_batch",
    "search_points",
    "search_solution",
    "search_solutions",
]
