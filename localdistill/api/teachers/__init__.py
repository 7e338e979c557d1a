"""Teachers: which there are, what is known of them, and the probe report that a few small questions lead to."""

from localdistill.api.teachers.examining import Examined, examine_teacher, tune_teacher, worst_cost_usd
from localdistill.api.teachers.findings import findings_of
from localdistill.api.teachers.known import KnownTeacher, facts_of, known_teachers
from localdistill.api.teachers.probe_targets import (
    ProbeTarget,
    asking_recipe,
    local_target,
    provider_target,
    recipe_targets,
)
from localdistill.engines.wire.probe_report import Probe, RateLimit, compare
from localdistill.stages.rechecking import last_probe

__all__ = [
    "Examined",
    "KnownTeacher",
    "Probe",
    "ProbeTarget",
    "RateLimit",
    "asking_recipe",
    "compare",
    "examine_teacher",
    "facts_of",
    "findings_of",
    "known_teachers",
    "last_probe",
    "local_target",
    "provider_target",
    "recipe_targets",
    "tune_teacher",
    "worst_cost_usd",
]
