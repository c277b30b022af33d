"""From a task card to aligned batches of clean and corrupt tokens, and the metrics read off their logits.

`find` and `card` need no torch, so that tasks can be listed quickly; import what you need from its module.
"""
