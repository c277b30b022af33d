"""`acdc export` and `acdc import`: to and from other tools."""
