"""Formulas and plots of the documentation."""
