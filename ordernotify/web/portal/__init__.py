"""The portal: pages for the supplier's staff, rendered here, that need no script and nothing from anywhere else."""
