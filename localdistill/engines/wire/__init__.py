"""What all engines that ask over a network share: bodies and how they are read (one dialect per file), one attempt of
one request, how fast a server may be asked, and the spreading of requests over servers. Knows no provider by name."""
