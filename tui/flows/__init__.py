"""Actions that take several steps: windows, questions and work in the background, in order. A screen starts one and is
told how it ended; none of them draws."""
