"""The process of one run: `python -m localdistill.runs RUN_FOLDER LOCK`. Started by whoever starts the run."""

from localdistill.runs.supervisor import main

if __name__ == "__main__":
    main()
