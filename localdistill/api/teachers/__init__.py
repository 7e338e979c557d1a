"""Teachers: which there are, what is known of them, and the probe report that a few small questions lead to."""
