"""Models: the machine they run on, what was exported, and talking to them."""
