"""Promises about data, at the gate and after the fact."""
