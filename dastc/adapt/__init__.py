"""Recipes: DA-STC and its baselines."""
