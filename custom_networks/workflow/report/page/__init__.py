"""What a folder of results looks like: one HTML file that opens without a network."""
