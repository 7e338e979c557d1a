"""Score cards: paired comparisons of several models on the same items, and how they look on paper."""

from localdistill.scorecard.building import build_forms_card, build_score_card
from localdistill.scorecard.card import (
    Comparison,
    Contestant,
    Flip,
    GroupScore,
    ItemResult,
    Row,
    ScoreCard,
    Verdict,
)
from localdistill.scorecard.text import to_markdown, to_text

__all__ = [
    "Comparison", "Contestant", "Flip", "GroupScore", "ItemResult", "Row", "ScoreCard", "Verdict",
    "build_forms_card", "build_score_card", "to_markdown", "to_text",
]
