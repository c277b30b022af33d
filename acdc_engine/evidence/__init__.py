"""How good a circuit is, on prompts it was or was not searched on, and how far that can be trusted."""
