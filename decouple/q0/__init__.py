"""Populations: cyclic trajectories, chain distillation and a learned prior over their snapshots."""

from decouple.q0.compress import distill
from decouple.q0.ensemble import Ensemble
from decouple.q0.perturb import perturb_, perturbation_scale
from decouple.q0.population import train_population
from decouple.q0.prior import (
    Prior,
    Strength,
    cross_validated_strength,
    fit_prior,
    greedy_members,
    mixture,
    nll,
    select_members,
)
from decouple.tasks.distill import distillation_loss
from decouple.training.schedules import cyclic_multipliers

__all__ = [
    "Ensemble",
    "Prior",
    "Strength",
    "cross_validated_strength",
    "cyclic_multipliers",
    "distill",
    "distillation_loss",
    "fit_prior",
    "greedy_members",
    "mixture",
    "nll",
    "perturb_",
    "perturbation_scale",
    "select_members",
    "train_population",
]
