"""The miniature: a small world of pictures and captions, and the models trained on it."""
