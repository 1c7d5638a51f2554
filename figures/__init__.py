"""Figures and tables, drawn from what runs left on disk."""
