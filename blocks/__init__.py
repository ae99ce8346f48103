"""Prefect blocks: typed credentials and settings, one class per platform."""
