"""What lies on disk beside the store: the workspace, run folders, artifacts, quarantine, log-probabilities, terms."""
