"""Scenarios that several test files start from."""

GOOD = """\
question: Do SGD particles gather where the posterior does?
parameters:
  w1: uniform(-1, 1)
  w2: normal(0, 1)
loss:
  model: w1 * w2**2 * x
  truth: 0
  inputs:
    x: normal(0, 1)
  noise: 0.5
  samples: 100
strata:
  flat: {zero: [w2], along: w1}
  sharp: {zero: [w1], along: w2}
populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: reshuffled}}
  langevin:
    rule: langevin
    step_size: 1e-4
steps: 1000
record: {frames: 50}
"""

POTENTIAL = """\
question: A potential?
parameters:
  w1: uniform(-1, 1)
  w2: laplace(0, 1)
loss: {potential: w1**2 * w2**2, gradient_noise: {isotropic: 0.5}}
nbeta: 100
strata:
  arm: {zero: [w1], along: w2, learning_coefficient: 1/2, multiplicity: 1}
  other: {zero: [w2], along: w1}
populations:
  sgd: {rule: sgd, learning_rate: 0.05, gradient: noisy, start: {w1: 0.5, w2: "uniform(-1, 1)"}}
steps: 10
"""

FLOW = """\
question: Do SGD particles gather where the posterior does, on the flatter arm?
parameters:                      # each with its prior
  w1: uniform(-1, 1)
  w2: uniform(-1, 1)
loss:
  model: w1 * w2**2 * x          # f(x, w)
  truth: 0
  inputs:
    x: normal(0, 1)
  noise: 1.0
  samples: population            # the expected loss, and fresh samples
nbeta: 1000
strata:
  crossing: {zero: [w1, w2]}
  flat_arm: {zero: [w2], along: w1}
  sharp_arm: {zero: [w1], along: w2}
populations:
  gradient_flow: {rule: gradient_descent, learning_rate: 0.05, substeps: 8}
  noiseless_sgd: {rule: label_noise_sgd, learning_rate: 0.05, label_noise: 0, gradient: {minibatch: 8, draw: fresh}}
  sgd: {rule: sgd, learning_rate: 0.05, gradient: {minibatch: 8, draw: fresh}}
  langevin: {rule: langevin, step_size: 1e-4}
measurements: {phases: {samples: [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]}}
decomposition: {population: sgd, longer: 10}
particles: 10000
steps: 20000
record: {frames: 200, spacing: log}
seed: 7
"""
