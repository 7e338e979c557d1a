"""Prompts to more prompts, each with where it comes from."""

from localdistill.core.registry import Family

AUGMENTATIONS = Family("augmentation", __name__, {
    "documents": "DocumentsAugmentation",
    "rephrase": "RephraseAugmentation",
    "reverse": "ReverseAugmentation",
    "similar": "SimilarAugmentation",
})
