"""A jail on a system that has less: `python -m tests.safety.weaker WITHOUT PLAN` in place of the keeper."""

from __future__ import annotations

import sys

from localdistill.safety.jail import keeper, kernel

WITHOUT = {"namespaces": "new_namespaces", "Landlock": "landlock", "filter": "filter_calls"}


def main() -> None:
    """Keep an inmate without one of the barriers."""
    for name in sys.argv.pop(1).split(","):
        setattr(kernel, WITHOUT[name], lambda *arguments: False)
    keeper.main()


if __name__ == "__main__":
    main()
