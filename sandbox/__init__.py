"""Does SGD reach simple solutions? Particles on singular losses beside the exact Bayesian posterior."""
