"""Which files there are, what their headers say, and whether they can be used."""
