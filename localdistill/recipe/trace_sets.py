"""What a recipe can say of prompts and of sets of traces: how they are asked, imported, taken from the store, or
rewritten. The docstring under a field is its help, its form label and its schema text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from localdistill.core.options import Member, Options
from localdistill.core.records import Sampling

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Table = dict[str, Any]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], Field(min_length=1),
                  BeforeValidator(_several, json_schema_input_type=str | list[str])]
"""One name, or several in a list."""
SomeNames = Annotated[tuple[str, ...], BeforeValidator(_several, json_schema_input_type=str | list[str])]
"""The same, or none."""


def without_name(schema: Table) -> None:
    """Take the name out of a schema: in TOML it is the key of the table."""
    schema["properties"].pop("name", None)
    schema["required"] = [name for name in schema.get("required", ()) if name != "name"]


class Named(Options):
    """A table that stands under its name."""

    model_config = ConfigDict(json_schema_extra=without_name)

    name: str = Field(pattern=NAME)
    """The key of its table."""


class HoldoutSection(Options):
    """Prompts that are set aside before anything is asked, to measure on: the task `holdout` asks them."""

    test: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the prompts that the final measurement asks."""
    dev: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the prompts for decisions on the way, disjoint from both others."""
    by: Literal["prompt", "document"] = "prompt"
    """What stays together: near-duplicates always do; with `document`, all prompts of one document too."""


class FilesSection(Options):
    """Files to read."""

    files: tuple[str, ...] = ()
    """Files to read: relative to the recipe, absolute, or `shipped:NAME`."""
    layout: str = "auto"
    """Layout of the files; `auto` detects it."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which column holds what, in place of a layout: `{ question = "q", answer = "reply", reference = "gold" }`. Also
    reasoning, model, verdict, original, tests, system, document, source and licence. Empty for files of a layout."""
    limit: int = Field(0, ge=0)
    """Take only the first so many rows of each file; 0 takes all."""


class PromptsSection(FilesSection):
    """Which prompts are asked: those of files, and stored ones."""

    stored: SomeNames = ()
    """Prompts that this workspace holds, by where they are from (`localdistill prompts` shows it), for example
    `mine.csv`; `*` takes all. Those that an [[augment]] made stay out."""
    holdout: HoldoutSection | None = None
    """What is set aside to measure on. It counts for traces that are imported, too."""


class HowAsked(Options):
    """How an engine is asked."""

    samples: int = Field(1, ge=1, le=64)
    """Answers asked per prompt; with `until_verified`, the most that are asked."""
    until_verified: bool = False
    """Ask each prompt again, up to `samples` times, until every [[grade]] that applies accepts an answer. The number of
    tries is kept as the prompt's label `tries`, a measure of its difficulty."""
    max_tokens: int = Field(1024, ge=1)
    """Upper limit of new tokens in one reply, reasoning included."""
    temperature: float = Field(0.0, ge=0.0, le=5.0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Nucleus: the smallest set of tokens with this probability mass."""
    top_k: int = Field(0, ge=0)
    """Only the so many most likely tokens; 0 keeps all."""
    seed: int = 0
    """Seed of the sampler; the sample index is added."""
    system: str = ""
    """System prompt put before every prompt that has none."""
    suffix: str | dict[str, str] = ""
    """Text put after the last user turn, for example a request to box the answer; or a table of such texts by kind of
    prompt (`math`, `code`, `choice`, `instructions`, or what its row says under `kind`), with `other` for the rest."""
    thinks: bool | None = None
    """Switch thinking on or off at the engine; unset leaves its default."""
    json_schema: str = ""
    """JSON Schema, as JSON text, that every reply must follow, for engines that can."""
    grammar: str = ""
    """GBNF grammar that every reply must follow, for llama.cpp."""
    top_logprobs: int = Field(0, ge=0, le=256)
    """Log-probabilities of so many tokens kept at every new token, in Parquet files of the run, for engines that can.
    0 keeps none."""
    reasoning_within: int = Field(8, ge=0)
    """A teacher that is to think (`thinks = true`, or an arm trains on this set's reasoning) and shows none in its
    first so many replies ends the asking; what it answered is kept. 0 takes answers without reasoning from it."""
    may_fail: float = Field(0.01, ge=0.0, le=1.0)
    """Share of prompts that may stay without an answer; above it the run stops as partial and can be resumed."""

    def sampling(self, seed: int = 0) -> Sampling:
        """How tokens are picked. seed: the base of all seeds of the recipe."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.top_k, self.seed + seed,
                        grammar=self.grammar, json_schema=self.json_schema)


class SetSection(Named):
    """Base of the kinds of trace sets."""

    filters: tuple[Member, ...] | None = Field(None, alias="filter")
    """Filters of this set in place of the recipe's, in order; an empty list keeps everything."""


class AskedSet(SetSection, HowAsked):
    """Traces asked of an engine, in one way."""

    ask: Names
    """The engine that is asked, or several, each of which answers every prompt."""


class ImportedSet(SetSection, FilesSection):
    """Traces that exist already, in files."""

    files: tuple[str, ...] = Field(min_length=1)
    """Files to read: relative to the recipe, absolute, or `shipped:NAME`."""


class StoredSet(SetSection):
    """Traces of this workspace that meet a condition."""

    stored: str
    """SQL condition over the columns that `localdistill traces --where` knows; `true` takes every trace."""


class SelectedSet(SetSection):
    """The traces of a saved selection."""

    selection: str
    """Name or id of the selection (`localdistill selections` lists them). It was filtered when it was made: the
    recipe's filters do not count here, its own do."""


class RewrittenSet(SetSection):
    """Traces made from those of another set. The filters of that set have chosen what is rewritten."""

    from_: Names = Field(alias="from")
    """The set that is rewritten, or several."""
    rewrite: str
    """The rewrite."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The rewrite's options, checked."""


SET_KINDS: dict[str, type[SetSection]] = {"ask": AskedSet, "files": ImportedSet, "stored": StoredSet,
                                         "selection": SelectedSet, "from": RewrittenSet}
"""The key that makes a table one kind of set."""


def _kind_of_set(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in SET_KINDS if key in value), "")
    return next((key for key, kind in SET_KINDS.items() if isinstance(value, kind)), "")


TraceSet = Annotated[
    Annotated[AskedSet, Tag("ask")] | Annotated[ImportedSet, Tag("files")] | Annotated[StoredSet, Tag("stored")]
    | Annotated[SelectedSet, Tag("selection")] | Annotated[RewrittenSet, Tag("from")], Discriminator(_kind_of_set)]
