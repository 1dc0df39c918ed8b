"""Captions of several methods, scored against references and laid side by side."""
