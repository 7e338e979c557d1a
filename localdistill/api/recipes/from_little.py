"""A recipe for people who have little: a few questions of their own, or a folder of texts. It makes more prompts of
them, and asks the engine that writes them for the answers, too, until somebody names another teacher there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from localdistill.api.teachers.probe_targets import local_target, provider_target
from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.errors import InputError, UsageError, nearest
from localdistill.providers import provider_names
from localdistill.recipe.drafts import write_new
from localdistill.recipe.sections import EngineSection

_READS_DOCUMENTS = "documents"


def augmentation_names() -> tuple[str, ...]:
    """How more prompts can be made."""
    return tuple(AUGMENTATIONS.names())


def writing_engine(name: str, model: str = "") -> EngineSection:
    """The engine that is meant: a GGUF file on this machine, or a model of a provider. UsageError for neither."""
    if name.endswith(".gguf"):
        return local_target(Path(name)).section
    if name not in provider_names():
        raise UsageError(f"there is no provider '{name}'{nearest(name, provider_names())}",
                         f"a GGUF file, or one of: {', '.join(provider_names())}")
    return provider_target(name, model).section


def recipe_from_little(path: Path, engine: EngineSection, files: Sequence[Path] = (), documents: Path | None = None,
                       by: Sequence[str] = (), count: int = 1) -> Path:
    """Write a recipe to `path`, which must not exist yet, that makes more prompts: of the questions in `files`, of the
    texts in `documents`, in the ways of `by` (none: `similar` for files, `documents` for texts).

    engine: writes, solves, judges and answers. count: questions asked of it for each prompt or piece of a text, and
    way. UsageError for a way that there is not, InputError where there is nothing to start from.
    """
    ways = tuple(dict.fromkeys(by)) or (*(("similar",) if files else ()), *((_READS_DOCUMENTS,) if documents else ()))
    for way in ways:
        if way not in AUGMENTATIONS.members:
            raise UsageError(f"there is no way '{way}' to make prompts{nearest(way, AUGMENTATIONS.members)}",
                             f"known: {', '.join(AUGMENTATIONS.names())}")
    reads = {way: AUGMENTATIONS.load(way).reads for way in ways}
    if not ways or ("prompts" in reads.values() and not files):
        raise InputError("there is nothing to make prompts from",
                         "give a file of questions, or --documents FOLDER with texts")
    if (_READS_DOCUMENTS in reads.values()) != (documents is not None):
        raise InputError("documents and the way 'documents' belong together",
                         "--documents FOLDER --by documents" + (" --by similar" if files else ""))
    for place in (*files, *([documents] if documents else [])):
        if not place.exists():
            raise InputError(f"there is no file or folder {place}", "correct the name")
    return write_new(path, _text(path, engine, files, documents, ways, count))


def _text(path: Path, engine: EngineSection, files: Sequence[Path], documents: Path | None, ways: Sequence[str],
          count: int) -> str:
    named = [_from(path, file) for file in files]
    options = "".join(f"{key} = {_toml(value)}\n" for key, value in engine.options.items())
    augments = "\n".join(
        f'[[augment]]\nuse = "{way}"\ncount = {count}\n'
        + (f"documents = {_toml(_from(path, documents))}\n" if documents and way == _READS_DOCUMENTS else "")
        for way in ways)
    prompts = f"[prompts]\nfiles = {_toml(named)}\n\n" if named else ""
    return f"""\
# More prompts from little: {", ".join(ways)}.
#
# What it does: makes more prompts, each checked by a solver and a judge, kept only where it is new and no item of a
# benchmark; then asks for their answers.
# What it needs: the engine below. Another one may answer: name it in [engine] and in `ask`.
# Run it: localdistill augment {path.name}   (the prompts alone), then localdistill run {path.name}

name = "{path.stem}"

{prompts}[engine.writer]
use = "{engine.use}"
{options}
{augments}
[traces]
answers = {{ ask = "writer" }}
"""


def _from(recipe: Path, file: Path) -> str:
    """How the recipe calls the file: relative where it lies in the same folder or below."""
    file, folder = file.expanduser().resolve(), recipe.expanduser().resolve().parent
    return os.path.relpath(file, folder) if file.is_relative_to(folder) else str(file)


def _toml(value: object) -> str:
    """A value as TOML writes it, which for texts, numbers, truths and lists of them is as JSON does."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
