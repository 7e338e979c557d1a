"""The stages of the chain: the only place that joins families. Each is one file with `run(context)`."""

from localdistill.core.registry import Family

STAGE_MODULES = Family(
    "stage",
    __name__,
    dict.fromkeys(("collect", "grade", "select", "rewrite", "format", "train", "evaluate", "export"), "run"),
)
