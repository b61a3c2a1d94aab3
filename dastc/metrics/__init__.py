"""Scores over a whole data set."""
