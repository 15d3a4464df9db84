"""What a training says of itself: lines, a curve, the Dice of every class, how it ended."""
