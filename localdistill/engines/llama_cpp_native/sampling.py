"""Token sampling, under a grammar where there is one (constrained decoding), and log-probabilities of what was picked.

Every sequence has a random source and a grammar of its own, so that nothing leaks from one reply into another. The
sampling is ours: llama.cpp's own samplers weigh and sort the whole vocabulary token by token, which for large
vocabularies takes longer than the model.
"""

from __future__ import annotations

import ctypes
import math
import random
from typing import Any

from localdistill.engines.llama_cpp_native.sequence import NativeRequest, TokenRow


class GrammarRefused(Exception):
    """The grammar or schema cannot be read; the text says why."""


class Picker:
    """Picks by temperature, top-k, top-p and seed, and where asked only what a grammar allows."""

    def __init__(self, api: Any, vocab: Any, request: NativeRequest) -> None:
        self._api, self._vocab, self._request = api, vocab, request
        self._random = random.Random(request.seed)
        self._grammar = self._read_grammar(request)

    def _read_grammar(self, request: NativeRequest) -> Any | None:
        text = request.grammar
        if request.json_schema:
            text = gbnf_of_schema(request.json_schema)
        if not text:
            return None
        grammar = self._api.llama_sampler_init_grammar(self._vocab, text.encode("utf-8", "replace"), b"root")
        if not grammar:
            raise GrammarRefused("llama.cpp cannot read the grammar; its first rule must be named root")
        return grammar

    def pick(self, logits: Any) -> int:
        """The token for a row of logits (V,). With a grammar: the free choice where it obeys, which is nearly always,
        else one among what obeys. That is the same distribution, and the whole vocabulary is checked only then."""
        token = self._choice(logits)
        if self._grammar is not None:
            if not self._obeys(token):
                token = self._choice(self._obedient(logits))
            self._api.llama_sampler_accept(self._grammar, token)
        return token

    def _choice(self, logits: Any) -> int:
        request = self._request
        if request.temperature <= 0:
            return int(logits.argmax())
        return drawn_token(logits, request.temperature, request.top_p, request.top_k, self._random.random())

    def _obeys(self, token: int) -> bool:
        import numpy

        return bool(self._checked(numpy.array([token], numpy.int32), numpy.zeros(1, numpy.float32))[0] > -math.inf)

    def _obedient(self, logits: Any) -> Any:
        """The logits, with those of tokens that the grammar forbids at minus infinity."""
        import numpy

        if self._request.temperature <= 0:  # the best that obeys is mostly among the best
            best = numpy.argsort(-logits, kind="stable")[:256].astype(numpy.int32)
            checked = self._checked(best, logits[best])
            if checked.max() > -math.inf:
                masked = numpy.full(len(logits), -numpy.inf, numpy.float32)
                masked[best] = checked
                return masked
        return self._checked(numpy.arange(len(logits), dtype=numpy.int32), logits)

    def _checked(self, ids: Any, logits: Any) -> Any:
        """The logits of `ids` after the grammar had its say."""
        import numpy

        table = numpy.zeros(len(ids), [("id", numpy.int32), ("logit", numpy.float32), ("p", numpy.float32)])
        table["id"], table["logit"] = ids, logits
        pointer = ctypes.cast(table.ctypes.data, ctypes.POINTER(self._api.llama_token_data))
        candidates = self._api.llama_token_data_array(data=pointer, size=len(ids), selected=-1, sorted=False)
        self._api.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return table["logit"]

    def free(self) -> None:
        """Give native memory back."""
        if self._grammar is not None:
            self._api.llama_sampler_free(self._grammar)
        self._grammar = None


def drawn_token(logits: Any, temperature: float, top_p: float, top_k: int, chance: float) -> int:
    """The token that `chance` (0 to 1) falls on in the distribution of `logits` (V,) at `temperature`, cut to the
    `top_k` likeliest and then to the fewest that hold `top_p` of the rest's mass. The same numbers mean the same
    distribution in every engine: temperature comes before top-p."""
    import numpy

    ids = None
    if 0 < top_k < len(logits):
        ids = numpy.argpartition(logits, len(logits) - top_k)[len(logits) - top_k :]
        ids.sort()
        logits = logits[ids]
    shares = numpy.exp((logits - logits.max()) / numpy.float32(temperature))
    if top_p < 1:
        # What is less likely than an even part of the cut mass cannot belong to the fewest, so it need not be sorted.
        kept = numpy.flatnonzero(shares >= shares.sum(dtype=numpy.float64) * (1 - top_p) / len(shares))
        order = kept[numpy.argsort(-shares[kept])]
        mass = numpy.cumsum(shares[order], dtype=numpy.float64)
        count = int(numpy.searchsorted(mass, top_p * shares.sum(dtype=numpy.float64))) + 1
        order = order[:count]
        shares, ids = shares[order], order if ids is None else ids[order]
    mass = numpy.cumsum(shares, dtype=numpy.float64)
    inside = min(chance * mass[-1], numpy.nextafter(mass[-1], 0))  # a product may be rounded up to the end
    place = int(numpy.searchsorted(mass, inside, side="right"))
    return place if ids is None else int(ids[place])


def gbnf_of_schema(schema: str) -> str:
    """The GBNF grammar of a JSON Schema in JSON text. Fetches nothing. Raises GrammarRefused."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        return str(json_schema_to_gbnf(schema))
    except Exception as error:
        raise GrammarRefused(f"the JSON schema cannot be turned into a grammar: {error}"[:300]) from None


def score_row(logits: Any, token: int, count: int) -> TokenRow:
    """`token`, its log-probability, and the `count` likeliest tokens of `logits` (V,) with theirs, best first.

    Of the model's own distribution: before temperature, top-k, top-p and grammar.
    """
    import numpy

    highest = logits.max()
    offset = float(highest) + math.log(numpy.exp(logits - highest).sum(dtype=numpy.float64))
    count = min(count, len(logits))
    if not count:
        return token, float(logits[token]) - offset, [], []
    best = numpy.argpartition(logits, len(logits) - count)[len(logits) - count :]
    best = best[numpy.lexsort((best, -logits[best]))]
    return token, float(logits[token]) - offset, best.tolist(), [float(x) - offset for x in logits[best]]
