"""The interactive picture of a circuit, one HTML file."""
