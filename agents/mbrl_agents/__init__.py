"""Planners and model-based agents."""
