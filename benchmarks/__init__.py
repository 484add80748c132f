"""What clustering, encoding and training cost, as ratios within one run. See README.md in this folder."""
