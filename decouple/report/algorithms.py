"""What the search algorithms are called, and which of them are references."""

from __future__ import annotations

NAMES = {
    "es": "our antithetic evolution strategy",
    "paper": "the paper’s genetic algorithm",
    "pgpe": "EvoTorch’s PGPE",
    "cem": "EvoTorch’s cross-entropy method",
    "random": "random search (a reference, not a method)",
    "gradient": "gradient ascent (a reference, not a method)",
}
"""By `SearchConfig.algorithm`."""

REFERENCES = {
    "random": "The search was a reference, not a method: random search scores as many candidates and learns nothing from their "
    "fitness. What follows from its targets is what comes of the learning alone.",
    "gradient": "The search was a reference, not a method: gradient ascent backpropagates the classification loss through the "
    "network to the activations, which a search does not. A scored candidate costs a gradient too.",
}
"""What the report says of those that are no search in the method's sense."""
