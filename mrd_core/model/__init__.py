"""A language model being read: loading, encoding, log-probabilities, memorization, gradients, perturbation."""
