"""The sandbox: every platform simulated on loopback, so that sending can be watched, broken and counted."""
