"""Score cards: paired comparisons of several models on the same items, and how they look on paper."""

from localdistill.scorecard.card import (
    Comparison,
    Contestant,
    Flip,
    GroupScore,
    ItemResult,
    Row,
    ScoreCard,
    build_score_card,
)
from localdistill.scorecard.text import to_markdown, to_text

__all__ = [
    "Comparison", "Contestant", "Flip", "GroupScore", "ItemResult", "Row", "ScoreCard", "build_score_card",
    "to_markdown", "to_text",
]
