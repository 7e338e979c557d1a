"""The Teacher X-ray: which teachers there are, what is known of them, and what a few small questions find out."""

from localdistill.engines.wire.xray import Probe, RateLimit, compare
from localdistill.probing.examining import Examined, examine_teacher, tune_teacher, worst_cost_usd
from localdistill.probing.findings import findings_of
from localdistill.probing.known import KnownTeacher, facts_of, known_teachers
from localdistill.probing.subjects import Subject, asking_recipe, local_subject, provider_subject, recipe_subjects
from localdistill.stages.rechecking import last_probe

__all__ = [
    "Examined", "KnownTeacher", "Probe", "RateLimit", "Subject", "asking_recipe", "compare", "examine_teacher",
    "facts_of", "findings_of", "known_teachers", "last_probe", "local_subject", "provider_subject", "recipe_subjects",
    "tune_teacher", "worst_cost_usd",
]
