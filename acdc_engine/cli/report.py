"""`acdc report`: the report of a run, written again."""
