"""The cyclic schedule as a picture: python -m benchmarks.q0_schedule writes figures/q0_schedule.png and .svg."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from benchmarks.common import save_pictures
from benchmarks.receipt import FIGURES
from decouple.q0 import cyclic_multipliers
from decouple.report import style

STEPS, CYCLES = 200, 2
SHAPES: dict[str, dict[str, Any]] = {
    "linear (default)": {},
    "cosine": {"shape": "cosine"},
    "warm-up, floor 0.08, warm-down": {"warmup": 0.1, "warmdown": 0.2, "lr_floor": 0.08},
}


@style.styled
def draw() -> Figure:
    """A panel for each shape: both multipliers over two cycles."""
    figure = style.new_figure(2.1)
    for axes, (title, settings) in zip(figure.subplots(1, len(SHAPES), sharey=True), SHAPES.items(), strict=True):
        values = [cyclic_multipliers(step, STEPS, **settings) for _ in range(CYCLES) for step in range(STEPS)]
        at = [step / STEPS for step in range(STEPS * CYCLES)]
        axes.plot(at, [lr for lr, _ in values], color=style.BLUE, label="learning rate")
        axes.plot(at, [decay for _, decay in values], color=style.VERMILLION, ls=(0, (4, 1.6)), label="weight decay")
        axes.set_title(title)
        axes.set_xlabel("cycles")
    figure.axes[0].set_ylabel("multiplier")
    figure.axes[0].set_ylim(0, 1.1)
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=2)
    return figure


if __name__ == "__main__":
    save_pictures(draw(), "q0_schedule", FIGURES)
