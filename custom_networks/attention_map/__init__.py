"""Where a network's attention modules look in an image."""
