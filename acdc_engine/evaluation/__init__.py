"""How good a circuit is, on prompts it was or was not searched on."""

from acdc_engine.evaluation.behaviour import check_behaviour
from acdc_engine.evaluation.figures import figures_of

__all__ = ["check_behaviour", "figures_of"]
