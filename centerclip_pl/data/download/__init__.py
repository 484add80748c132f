"""Fetching what the owners of datasets offer by a direct link, and unpacking it safely."""
