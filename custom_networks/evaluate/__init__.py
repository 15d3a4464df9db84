"""The users' command ``evaluate``: predictions against labels, or a bundle on a labelled folder."""
