"""Prefect: its server as a child process, the warm worker, runs and deployments."""
