"""`python -m tui`: the UI on the workspace that is found from here."""

from tui.app import main

main()
