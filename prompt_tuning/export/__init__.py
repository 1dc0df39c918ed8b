"""Exports a soft prompt as tokens of the model, for runtimes that take no embeddings."""
