"""Circuits for people: text for terminals, and pictures."""
