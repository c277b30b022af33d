"""Pictures of circuits, curves and comparisons, drawn with matplotlib (the extra `draw`)."""
