"""Networks that can be run from any search point on."""

from decouple.networks.paper import paper_network
from decouple.networks.stages import Stages

__all__ = ["Stages", "paper_network"]
