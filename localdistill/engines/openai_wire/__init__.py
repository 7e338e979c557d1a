"""The parts of the `openai_compatible` engine: `body` reads replies, `waiting` decides on retries, `client` asks."""
