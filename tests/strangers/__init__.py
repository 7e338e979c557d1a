"""Inputs of strangers: generators of hostile files."""
