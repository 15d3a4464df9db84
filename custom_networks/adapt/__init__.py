"""From a folder of a user's data to the profile that makes a bundle train on it."""
