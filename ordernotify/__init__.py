"""Tells a defense supplier's clients what happens to their orders, and proves it for years."""

__version__ = "0.1.0"
