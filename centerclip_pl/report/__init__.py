"""RUNS -> ONE PAGE that opens offline: tables and plots for people who do not open notebooks."""
