"""What all engines that ask over a network share: bodies and how they are read (one dialect per file), one attempt of
one request, a rate limiter for each server, and load balancing over servers. Knows no provider by name."""
