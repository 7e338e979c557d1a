"""Traces: looked at, imported, laid out, selected."""
