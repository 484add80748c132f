"""A SWEEP FILE -> RUNS: W&B's own search methods, without an account, resumable, on one machine or a cluster."""
