"""RANKS AND RUNS -> HOW SURE: intervals over queries, spread over seeds, paired tests between methods."""
