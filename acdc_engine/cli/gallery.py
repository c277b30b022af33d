"""`acdc gallery`: many runs as a static site."""
