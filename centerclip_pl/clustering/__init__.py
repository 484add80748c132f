"""Pure tensor functions that choose tokens: ``[B, N, C]`` -> cluster ids. They need torch alone."""

from centerclip_pl.clustering.kmedoids import Clusters, kmedoids
from centerclip_pl.clustering.spectral import spectral

__all__ = ["Clusters", "kmedoids", "spectral"]
