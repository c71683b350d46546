"""Configurations of mergekit 0.1 (Goddard et al. 2024, arXiv:2403.13257), computed by this project's own methods."""
