"""Many runs: grids of settings, run by Snakemake."""
