"""Soft actor-critic from replayed transitions."""
