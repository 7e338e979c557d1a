"""Trained students to files for other programs."""

from localdistill.core.registry import Family

EXPORTERS = Family("exporter", __name__, {
    "gguf": "GgufExporter",
    "ollama": "OllamaExporter",
})
