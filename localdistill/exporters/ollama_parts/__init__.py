"""The parts of the ollama exporter: a chat template found out as a form of turns, and that form in the language of
Ollama's templates."""
