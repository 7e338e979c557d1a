"""Score cards: paired comparisons of several models on the same items, what they choose, and how they look on paper."""

from localdistill.scorecard.building import build_beside_card, build_files_card, build_forms_card, build_score_card
from localdistill.scorecard.card import (
    RIGHT,
    SEEDS_FOR_FORMATS,
    CategoryScore,
    Comparison,
    ContestantResult,
    Flip,
    ItemResult,
    MetricMean,
    SampleResult,
    ScoreCard,
    ScoreCards,
    ScoreRow,
    Verdict,
)
from localdistill.scorecard.cheapest import FileChoice, FileStanding, choose_file
from localdistill.scorecard.model_selection import (
    ArmStanding,
    Choice,
    Standing,
    cautions,
    choose_arm,
    is_settled,
    standings_of,
)
from localdistill.scorecard.text import to_markdown, to_text

__all__ = [
    "RIGHT", "SEEDS_FOR_FORMATS", "ArmStanding", "CategoryScore", "Choice", "Comparison", "ContestantResult",
    "FileChoice", "FileStanding", "Flip", "ItemResult", "MetricMean", "SampleResult", "ScoreCard", "ScoreCards",
    "ScoreRow", "Standing", "Verdict", "build_beside_card", "build_files_card", "build_forms_card", "build_score_card",
    "cautions", "choose_arm", "choose_file", "is_settled", "standings_of", "to_markdown", "to_text",
]
