"""The demo: a small world of images and captions, and the models trained on it."""
