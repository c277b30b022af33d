"""What somebody installs beside the engine: one file for each addition. `tests/test_plugins.py` writes its metadata."""
