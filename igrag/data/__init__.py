"""Captioned images, training examples, token ids and batches."""
