"""Measures of plain text."""
