"""Time and memory of networks and attention modules."""
