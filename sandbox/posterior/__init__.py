"""Posterior, tempered posterior and level sets of the prior, computed without any particle of the simulation."""
