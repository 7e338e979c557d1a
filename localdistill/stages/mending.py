"""What a stage left when it ran before and is damaged now: it is said, and what the stage would believe is forgotten,
so that it is made again."""

from __future__ import annotations

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import OUTPUTS, read_output

_LISTS = {"augment": ("augment",), "collect": ("collect", "holdout"), "select": ("select",), "rewrite": ("rewrite",)}
"""Stage -> how the lists begin that it makes."""


def mend(context: StageContext, stage: str) -> None:
    """Say what of this stage is damaged, and make room for it."""
    try:
        read_output(context.run, OUTPUTS[stage])
    except UsageError:
        pass  # it has not run
    except LocalDistillError as error:
        context.warn(f"{error.message}: it is made again")
    lists = context.run.lists
    for name in lists.names():
        if name.startswith(_LISTS.get(stage, ())):
            try:
                lists.read(name)
            except LocalDistillError as error:
                context.warn(f"{error.message}: it is made again")
                lists.forget(name)
