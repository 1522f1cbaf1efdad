"""Measurements of a loss: λ and m from volumes, free energies and the zeta function."""
