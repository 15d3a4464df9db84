"""What the app is made of; the files know only MONAI Label, MONAI and each other."""
