"""Who is to be probed: a provider's model, a GGUF file, or the teachers of a recipe. Builds engines, asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localdistill.core.errors import UsageError, nearest
from localdistill.engines import ENGINES
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.options import WireOptions
from localdistill.providers import provider
from localdistill.recipe.sections import EngineSection, Recipe
from localdistill.recipe.trace_sets import AskedSet, PromptsSection
from localdistill.stages.context import build_member


@dataclass(frozen=True)
class ProbeTarget:
    """One teacher that can be probed."""

    label: str
    section: EngineSection
    base: Path
    """Where relative paths of its options start."""

    def build(self) -> Any:
        """Its engine. UsageError when an option is wrong, or when there is nothing to probe."""
        if not _can_be_probed(self.section.use):
            raise UsageError(f"{self.label}: the engine {self.section.use} has nothing to probe",
                             f"engines that can be probed: {', '.join(filter(_can_be_probed, ENGINES.names()))}")
        try:
            return build_member(ENGINES, self.section, self.base)
        except ValidationError as problem:
            said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in problem.errors())
            raise UsageError(f"{self.label}: {said}", "localdistill teacher probe --help") from None


def _can_be_probed(engine: str) -> bool:
    return issubclass(ENGINES.load(engine), WireEngine | LlamaCppEngine)


def asking_recipe(targets: Sequence[ProbeTarget]) -> Recipe:
    """A recipe that says no more than that these teachers are asked: what consent is about."""
    engines = {target.section.name: target.section for target in targets}
    return Recipe(name="probe", prompts=PromptsSection(), engine=tuple(engines.values()),
                  traces=(AskedSet(name="probed", ask=tuple(engines)),))


def provider_target(name: str, model: str = "", base_url: str = "", key_env: str = "") -> ProbeTarget:
    """A model of a known provider; `base_url` and `key_env` replace what its file says."""
    known = provider(name)
    if not model:
        exact = [entry.match for entry in known.models if not set(entry.match) & set("*?[")]
        shown = f"--model NAME, for example {exact[0]}" if exact else "--model NAME, as the server calls it"
        raise UsageError(f"{name}: which model?", shown)
    options = {"provider": name, "model": model, "base_url": base_url, "api_key_env": key_env}
    given = {key: value for key, value in options.items() if value}
    return ProbeTarget(f"{name} {model}", EngineSection(use=known.engine, name=name, options=given), Path.cwd())


def local_target(path: Path) -> ProbeTarget:
    """A GGUF file on this machine."""
    section = EngineSection(name="local", use="llama_cpp", options={"model": str(path.expanduser().resolve())})
    return ProbeTarget(path.name, section, Path.cwd())


def recipe_targets(recipe: Recipe, base: Path, name: str = "", model: str = "", base_url: str = "",
                    key_env: str = "") -> list[ProbeTarget]:
    """The engines of `recipe`, or those called `name` or of that kind; the other words replace options of engines that
    have them."""
    labels = [engine.name for engine in recipe.engines]
    if not labels:
        raise UsageError(f"the recipe {recipe.name} names no engine", "name a provider instead")
    chosen = [engine for engine in recipe.engines if name in ("", engine.name, engine.use)]
    if not chosen:
        raise UsageError(f"the recipe {recipe.name} has no engine '{name}'{nearest(name, labels)}",
                         f"its engines: {', '.join(labels)}")
    changes = {"model": model, "base_url": base_url, "api_key_env": key_env}
    changes = {key: value for key, value in changes.items() if value}
    found = []
    for engine in chosen:
        asks_a_server = issubclass(ENGINES.load(engine.use).Options, WireOptions)
        options = {**engine.options, **(changes if asks_a_server else {})}
        found.append(ProbeTarget(engine.name, engine.model_copy(update={"options": options}), base))
    return found
