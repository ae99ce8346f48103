"""What `make bench` runs: promises measured as ratios and percentiles on this machine, in one run."""
