"""Loading models, and the residual-stream view of them that the rest of the engine uses."""

from acdc_engine.models.load import load_model
from acdc_engine.models.view import TransformerView

__all__ = ["TransformerView", "load_model"]
