"""One run: its settings, its folder, its progress, and what is written down about it."""
