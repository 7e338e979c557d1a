"""`python -m localdistill`: the command line, for where its script is not on the PATH."""

from localdistill.cli import main

if __name__ == "__main__":
    main()
