"""`acdc view`: a circuit in the browser, as one HTML file."""
