"""The learning coefficient λ (real log canonical threshold) and its multiplicity m, if a theorem gives them."""
