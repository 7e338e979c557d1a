"""Batch endpoints: cheaper answers within a day, that no restart pays for twice."""
