"""Loading models, and the residual-stream view of them that the rest of the engine uses."""

from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView

__all__ = ["TransformerView", "load_model"]
