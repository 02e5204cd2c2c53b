"""Where workers run: as processes of this machine, as jobs of Slurm, as jobs of Ray. No scheduler of our own."""
