"""Files of models, read with suspicion: folders, tokenizers, tensors, GGUF headers; and the hardware to hold them."""
