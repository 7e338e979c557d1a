"""Renders one Jinja chat template in Jinja's immutable sandbox, with the names that model makers rely on.

The sandbox stops access to Python; it does not stop a template from eating time and memory. So this runs only
inside a process with limits: `templates.child`, or a child that an engine already has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED_CHARS = 4_000_000
"""More than any context holds; on its way to the parent a character may take twelve bytes."""


class TemplateFailure(Exception):
    """The template is wrong, refuses these messages, or is out of bounds; the text says which."""


class _Generation(Extension):
    """`{% generation %}` marks what a trainer should learn; for rendering it is only its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


KEPT_DATE = datetime(2026, 1, 1)
"""What every template is told is now. Prompts and training rows are the same text on whatever day they are made, so
that what is stored is found again and an evaluation asks what the training showed."""


def _strftime_now(layout: str) -> str:
    return KEPT_DATE.strftime(layout)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None,
             separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
    """Unlike Jinja's own filter this does not escape HTML: models were trained without it."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    names: dict[str, Callable[..., Any]] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    environment.globals.update(names)
    return environment.from_string(source)


def render_here(source: str, context: Mapping[str, Any]) -> str:
    """The rendered text. Raises TemplateFailure whatever goes wrong, running out of memory included."""
    try:
        text = _compiled(source).render(**context)
    except MemoryError:
        raise TemplateFailure("it needs too much memory") from None
    except TemplateError as error:
        raise TemplateFailure(str(error) or type(error).__name__) from None
    except Exception as error:
        raise TemplateFailure(f"{type(error).__name__}: {error}") from None
    if len(text) > MAX_RENDERED_CHARS:
        raise TemplateFailure(f"it made {len(text):,} characters; the limit is {MAX_RENDERED_CHARS:,}")
    return text
