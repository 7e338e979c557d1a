"""Runs: one execution of a recipe, in processes that outlive the terminal."""

from localdistill.runs.control import cancel, cancel_batches, follow, resume, start, wait
from localdistill.runs.naming import run_to, typed_again
from localdistill.workspace.run_folder import RunFolder, RunStatus, list_runs

__all__ = ["RunFolder", "RunStatus", "cancel", "cancel_batches", "follow", "list_runs", "resume", "run_to", "start",
           "typed_again", "wait"]
