"""The graph of a transformer: its senders and receivers, its edges, and circuits as sets of edges."""
