"""Many runs as a static site."""
