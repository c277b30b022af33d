"""Circuits for people and for other programs: text, pictures and other tools' formats."""
