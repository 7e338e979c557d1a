"""The one boundary for text and for errors, attacked: hostile texts, places that hold them, every command of the
command line, and what may come of it. Importable by other harnesses: `cases()`, `Place`, `run`, `complaints`."""
