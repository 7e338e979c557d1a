"""The process in which chat templates run: `python -m localdistill.templates.child`.

Reads {"key", "source"?, "context"} lines and writes {"text"} or {"error"}. A source is sent once and remembered.
"""

from __future__ import annotations

from localdistill.safety.children import limit_memory, serve
from localdistill.templates.sandbox import TemplateFailure, render_here

MEMORY_LIMIT_BYTES = 512 * 1024 * 1024


def main() -> None:
    """Serve until the parent closes the pipe."""
    line = serve()
    limit_memory(MEMORY_LIMIT_BYTES)
    sources: dict[str, str] = {}
    for message in line:
        if "source" in message:
            sources[message["key"]] = message["source"]
        try:
            line.write({"text": render_here(sources[message["key"]], message["context"])})
        except TemplateFailure as failure:
            line.write({"error": str(failure)[:2000]})
        except MemoryError:
            line.write({"error": "it needs too much memory"})


if __name__ == "__main__":
    main()
