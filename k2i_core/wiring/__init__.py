"""Where real parts are built from a pipeline file, and nowhere else."""
