"""The child process of the `llama_cpp` engine, and the client that talks to it.

In the parent: `session` decides on memory and speed (`sizing`, `tuning`), `pool` and `client` keep children alive. In
the child: `child` reads requests, `model` and `context` wrap llama.cpp, `batching` decodes many sequences at once
into the cells that `cells` allocates, `picking` samples tokens, `sequence` and `loops` are pure Python. `placement`,
`calibrating` and `matrix_units` find out what the machine can do. Only what runs in the child ever touches llama.cpp.
"""
