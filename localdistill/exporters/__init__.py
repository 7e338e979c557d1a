"""Trained students to files for other programs; what can be written is asked of `gguf_parts.hyper_parameters` and
`vocabulary` before a run starts."""

from localdistill.core.registry import Family

EXPORTERS = Family("exporter", __name__, {
    "adapter_gguf": "AdapterGgufExporter",
    "folder": "FolderExporter",
    "gguf": "GgufExporter",
    "ollama": "OllamaExporter",
})
