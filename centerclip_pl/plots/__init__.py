"""TABLES OF RUNS -> FIGURES, for notebooks, reports and papers."""
