"""Trained students to files for other programs."""

from localdistill.registry import Family

EXPORTERS = Family("exporter", __name__, {
    "gguf": "GgufExporter",
    "ollama": "OllamaExporter",
})
