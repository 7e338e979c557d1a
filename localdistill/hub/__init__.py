"""The Hugging Face hub: what its names mean, and the fetching of models and data sets by one process of its own."""
