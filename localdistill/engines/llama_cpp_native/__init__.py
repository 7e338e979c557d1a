"""The child process of the `llama_cpp` engine, and the client that talks to it.

`child` reads requests, `model` wraps the loaded model, `batching` decodes many sequences at once, `sequence` is one
of them, `client` is the parent's end. Only `child`, `model` and `batching` ever touch llama.cpp.
"""
