"""What a selection may remove."""

from localdistill.core.registry import Family

FILTERS = Family("filter", __name__, {
    "contamination": "ContaminationFilter",
    "duplicates": "DuplicatesFilter",
    "length": "LengthFilter",
    "teacher": "TeacherFilter",
    "variation": "VariationFilter",
    "verified": "VerifiedFilter",
    "where": "WhereFilter",
})
