"""`acdc draw`: a picture for a paper."""
