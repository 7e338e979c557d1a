"""What is measured of traces and prompts, beside the verdicts on them."""

from localdistill.core.registry import Family

LABELS = Family("label", __name__, {
    "language": "LanguageLabel",
    "near_duplicates": "NearDuplicatesLabel",
    "pass_rate": "PassRateLabel",
    "perplexity": "PerplexityLabel",
    "prompt_kind": "PromptKindLabel",
    "question_validity": "QuestionValidityLabel",
    "repetition": "RepetitionLabel",
    "secrets": "SecretsLabel",
    "steps": "StepsLabel",
    "style": "StyleLabel",
    "tokens": "TokensLabel",
    "tries": "TriesLabel",
})
