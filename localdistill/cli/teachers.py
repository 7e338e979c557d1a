"""Commands on teachers: list, show, probe, tune. Probing spends a few cents, says so first and asks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import (
    AcceptTermsOption,
    JsonOption,
    WorkspaceOption,
    accept_terms,
    read_recipe,
    workspace_of,
)

app = typer.Typer(no_args_is_help=True, help="Look at teachers: what is known of them, and what a probe finds out.")


def register(parent: typer.Typer) -> None:
    """Add the group of this file."""
    parent.add_typer(app, name="teacher")


@app.command("list", help="List known providers: terms, key, prices, batches, and what the last probe said.")
def list_all(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Every provider with a file."""
    from localdistill import known_teachers

    found = known_teachers(workspace_of(workspace))
    if as_json:
        output.data_json([dataclasses.asdict(teacher) for teacher in found])
        return
    rows = []
    for teacher in found:
        last = teacher.last_probe
        said = f"{last.model}: reasoning {last.reasoning} ({last.probed_at[:10]})" if last else "-"
        prices = f"{teacher.priced_models} known" if teacher.priced_models else "unknown"
        terms = "of the model" if teacher.terms == "model" else teacher.terms
        rows.append((teacher.name, teacher.title, terms, teacher.key, prices, teacher.batch, said))
    output.table(["name", "title", "terms", "key", "prices", "batch", "last probe"], rows)


@app.command("show", help="Show all that is known of one provider, with the documents and their dates.")
def show(
    name: Annotated[str, typer.Argument(help="Name of a provider, as `teacher list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """One provider's file."""
    from localdistill import facts_of, provider

    known = provider(name)
    if as_json:
        output.data_json(known.model_dump(mode="json", by_alias=True))
    else:
        _say(list(facts_of(known)))


@app.command(
    "probe",
    help="Ask a teacher a few small questions and say what it is: whether its reasoning is whole, where it stands, "
    "its limits, price and speed. Says first what that can cost.",
)
def probe(
    name: Annotated[str, typer.Argument(help="A provider, a recipe whose teachers are probed, or a GGUF file.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model as the server knows it.")] = "",
    base_url: Annotated[str, typer.Option("--base-url", help="Address instead of the provider's or recipe's.")] = "",
    key_env: Annotated[str, typer.Option("--key-env", help="Environment variable that names the key.")] = "",
    recipe: Annotated[str, typer.Option("--recipe", help="Take the teacher NAME from this recipe.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending.")] = False,
    max_usd: Annotated[float, typer.Option("--max-usd", min=0, help="Most US dollars to spend.")] = 0.05,
    accepted: AcceptTermsOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Probe one or several teachers."""
    from localdistill import Cancel, Cancelled, SpendLedger, examine_teacher

    place = workspace_of(workspace, may_be_new=True)
    targets = _targets(name, recipe, model, base_url, key_env)
    _need_consent(targets, place, accepted or [])
    if not _may_spend(targets, max_usd, yes):
        return
    ledger, found = SpendLedger(cap_usd=max_usd), []
    try:
        for target in targets:
            output.talk(f"asking {target.label} ...")
            found.append(examine_teacher(place, target, ledger, Cancel()))
            if not as_json:
                _show(found[-1])
    except KeyboardInterrupt:
        raise Cancelled("cancelled", "what was spent is spent; probe again to see a report") from None
    if as_json:
        output.data_json([{"teacher": one.label, "probe": one.probe.to_json(), "changes": one.changes}
                          for one in found])


def _targets(name: str, recipe: str, model: str, base_url: str, key_env: str) -> list[Any]:
    """Who is meant: a teacher of `recipe`, a provider, a GGUF file, or all teachers of the recipe `name`."""
    from localdistill import local_target, provider_names, provider_target, recipe_targets

    changes = {"model": model, "base_url": base_url, "key_env": key_env}
    if recipe:
        loaded, _, base = read_recipe(recipe, None, None)
        return recipe_targets(loaded, base, name, **changes)
    if name in provider_names():
        return [provider_target(name, **changes)]
    if name.endswith(".gguf"):
        return [local_target(Path(name))]
    _known_or_fail(name)
    loaded, _, base = read_recipe(name, None, None)
    return recipe_targets(loaded, base, "", **changes)


def _known_or_fail(name: str) -> None:
    """UsageError with the nearest name when `name` is neither a provider nor a recipe."""
    from localdistill import UsageError, nearest, provider_names, shipped_recipes

    recipes = [path.stem for path in shipped_recipes()]
    if name in recipes or name.endswith(".toml") or Path(name).expanduser().exists():
        return
    raise UsageError(f"there is no provider and no recipe '{name}'{nearest(name, [*provider_names(), *recipes])}",
                     f"providers: {', '.join(provider_names())}; recipes: {', '.join(recipes)}; or a .gguf file")


def _need_consent(targets: list[Any], place: Any, accepted: list[str]) -> None:
    """UsageError while there are terms of use that nobody decided about."""
    from localdistill import UsageError, asking_recipe, open_terms

    recipe = asking_recipe(targets)
    accept_terms(recipe, place, accepted)
    if still_open := open_terms(recipe, place):
        options = " ".join(f"--accept-terms {question.name}" for question in still_open)
        raise UsageError("\n".join(question.text for question in still_open),
                         f"read the terms; if you decide to go on: localdistill teacher probe ... {options}")


def _may_spend(targets: list[Any], max_usd: float, yes: bool) -> bool:
    """Say what the probe can cost and ask, unless nothing can or `yes` was said."""
    from localdistill import UsageError, worst_cost_usd

    costs = []
    for target in targets:
        cost = worst_cost_usd(target)
        costs.append(cost)
        if cost != 0:
            said = "an unknown amount: no price is known" if cost is None else f"at most about ${cost:.4f}"
            output.talk(f"probing {target.label} costs {said}")
    if None not in costs and sum(filter(None, costs)) == 0:
        return True
    # Without a price there is nothing to count, so the cap cannot hold.
    output.talk("the cap cannot hold without a price" if None in costs else f"it stops at ${max_usd:g}")
    if yes:
        return True
    if not output.somebody_is_here():
        raise UsageError("nobody is here to be asked", "add --yes to go on without a question")
    return output.confirm("ask the questions?")


def _show(examined: Any) -> None:
    from localdistill import findings_of

    _say(list(findings_of(examined.probe)))
    if examined.before is None:
        return
    since = f"since {examined.before.probed_at}"
    for change in examined.changes:
        output.data(f"changed {since}: {change}")
    if not examined.changes:
        output.data(f"nothing changed {since}")


@app.command(
    "tune",
    help="Measure which threads, attention and cache layout are fastest for a GGUF file, and remember it.",
)
def tune(
    model: Annotated[Path, typer.Argument(help="A GGUF file.")],
    parallel: Annotated[int, typer.Option(help="Sequences decoded at once, as in the recipe.", min=1, max=256)] = 16,
    as_json: JsonOption = False,
) -> None:
    """Calibrate llama.cpp for one file on this machine."""
    from localdistill import tune_teacher

    found = tune_teacher(model, parallel)
    if as_json:
        output.data_json(dataclasses.asdict(found))
        return
    best = max(found.rates.values(), default=0.0)
    output.table(["settings", "tokens/s", ""], [
        (name, f"{rate:,.1f}", "fastest" if rate == best else "")
        for name, rate in sorted(found.rates.items(), key=lambda row: -row[1])])
    output.talk(f"remembered for this file, {parallel} sequences and this machine; took {found.elapsed_s:.0f} s")


def _say(lines: list[tuple[str, str]]) -> None:
    """Label and text in two columns."""
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        output.data(f"{label:<{width}}  {text}".replace("\n", " "))
