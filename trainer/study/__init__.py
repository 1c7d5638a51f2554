"""Comparisons of many training runs: a protocol fixed beforehand, its runner, and its tables.

A study starts runs as processes of their own and reads what they leave on disk; it knows no method by name.
"""
