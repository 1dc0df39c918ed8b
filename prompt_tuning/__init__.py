"""Soft prompt tuning: learnable embeddings before the source of a frozen seq2seq model."""
