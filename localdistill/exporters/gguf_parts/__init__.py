"""The parts of GGUF export: weights, architecture, vocabulary, writing, quantizing, and llama.cpp's side of the
parity gate. Only the exporter and scripts that make models import from here."""
