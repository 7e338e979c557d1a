"""The stages of the chain: the only place that joins families. Each is one file with `run(context)`."""

from localdistill.core.registry import Family
from localdistill.core.stages import STAGES

STAGE_MODULES = Family("stage", __name__, {stage.name: "run" for stage in STAGES})
