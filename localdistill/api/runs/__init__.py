"""Runs: where they stand, what they found and spent, what may go."""
