"""Using circuits: running and generating with them, changing what nodes write, steering, models without some nodes."""
