"""Networks under one recipe, and what may be said of the difference."""
