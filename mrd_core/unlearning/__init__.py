"""Unlearning: losses, sampling, stopping and the trainer."""
