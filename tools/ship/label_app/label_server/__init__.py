"""What the app is made of; the files know only MONAI Label, MONAI and each other.

Where a bundle runs, its own ``custom_networks`` is imported besides.
"""
