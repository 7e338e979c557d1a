"""API keys: where they live, and to which host each may go."""
