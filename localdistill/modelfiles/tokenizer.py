"""The student's tokenizer on the `tokenizers` library alone, so that counting and training rows need no torch and no
transformers. Must not add special tokens on its own: what is in the text is what is encoded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, MissingExtra, ModelFileError
from localdistill.modelfiles.folder import stated_stop_ids
from localdistill.modelfiles.tokenizer_claims import NAME, read_tokenizer
from localdistill.modelfiles.vocabulary import vocabulary_id
from localdistill.safety.files import sha256_file
from localdistill.templates import ChatTemplate

_HALF = re.compile("[\ud800-\udfff]")
_PANIC = "PanicException"
"""What the library raises when it comes upon what it did not expect. Its class cannot be imported."""


class StudentTokenizer:
    """Encodes and decodes for one model folder."""

    def __init__(self, folder: Path | str) -> None:
        """Load `tokenizer.json` of `folder`. Raises ModelFileError when it is missing or damaged."""
        self.folder = Path(folder)

    @cached_property
    def digest(self) -> str:
        """`sha256:...` of its file: two students with the same one count the same tokens."""
        return sha256_file(self.folder / NAME)

    @cached_property
    def _pair(self) -> tuple[Any, Any]:
        """The tokenizer, and the same one without post-processing, which would add tokens and trim spaces off the
        offsets. Both are made of what was checked, not of the file anew."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra.of("train", "tokenizers") from error
        data = {**read_tokenizer(self.folder), "truncation": None, "padding": None}
        with self._named_errors():
            whole = Tokenizer.from_str(json.dumps(data))
            if data.get("post_processor") is None:
                return whole, whole
            return whole, Tokenizer.from_str(json.dumps({**data, "post_processor": None}))

    @property
    def _tokenizer(self) -> Any:
        return self._pair[0]

    @property
    def _raw(self) -> Any:
        return self._pair[1]

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What the library makes of a wrong tokenizer: errors, and panics that are none of Python's."""
        try:
            yield
        except LocalDistillError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
                raise
            raise ModelFileError(f"{self.folder / NAME} cannot be used: {str(error)[:200]}",
                                 "download the tokenizer again") from None

    @cached_property
    def leading_ids(self) -> tuple[int, ...]:
        """Tokens that the tokenizer itself puts before every text (a BOS, or nothing)."""
        with self._named_errors():
            full = self._tokenizer.encode("x").ids
        plain = self.encode("x")
        for start in range(len(full) - len(plain) + 1):
            if full[start:start + len(plain)] == plain:
                return tuple(full[:start])
        return ()

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end generation: the one that the folder's chat template writes after a turn, then the others that
        generation_config, config and tokenizer state. Raises ModelFileError when the template cannot say."""
        ending = self.turn_ending(ChatTemplate.from_folder(self.folder).turn_end())
        return tuple(dict.fromkeys((*ending[-1:], *self._stated_stops)))

    @cached_property
    def _stated_stops(self) -> tuple[int, ...]:
        return stated_stop_ids(self.folder)

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)

    def turn_ending(self, turn_end: str) -> list[int]:
        """Tokens of `turn_end`, what a template writes after a turn, up to and including the one that ends it: the
        first stated stop token, else the first special token. Empty when there is neither."""
        ids = self.encode(turn_end)
        for ends in (self._stated_stops, self._special_ids):
            found = next((place for place, token in enumerate(ids) if token in ends), None)
            if found is not None:
                return ids[:found + 1]
        return []

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def identity(self) -> str:
        """What its token ids mean; equal for every file of the same vocabulary, GGUF included."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary_id({int(number): str(token) for token, number in vocabulary.items()})

    def token_id(self, token: str) -> int | None:
        """The id of exactly this token, or None."""
        found = self._tokenizer.token_to_id(token)
        return None if found is None else int(found)

    def token(self, token_id: int) -> str | None:
        """The token with this id as the vocabulary writes it, or None."""
        found = self._tokenizer.id_to_token(token_id)
        return None if found is None else str(found)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens written in it are recognised, none is added. Half a surrogate pair, which
        no vocabulary holds, counts as U+FFFD."""
        return list(self._encoded(text).ids)

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of `text`, and for each the index of the character it starts in."""
        encoding = self._encoded(text)
        return list(encoding.ids), [start for start, _ in encoding.offsets]

    def _encoded(self, text: str) -> Any:
        with self._named_errors():
            return self._raw.encode(_HALF.sub("\ufffd", text), add_special_tokens=False)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, with the tokenizer's BOS exactly once, written by the template or not."""
        ids = self.encode(text)
        lead = list(self.leading_ids)
        return ids if not lead or ids[:len(lead)] == lead else lead + ids

    def count(self, text: str) -> int:
        """Number of tokens of `text`, as `encode` makes them."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens written out."""
        with self._named_errors():
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))
