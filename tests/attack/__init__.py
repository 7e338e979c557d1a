"""An attack on a finished workspace and on runs: thousands of faults, each of which must end as the same result, as a
healed one that was said, or as a named error. `python -m tests.attack` says the rest."""
