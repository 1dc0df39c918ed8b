"""From an image to similar captioned images: encoder, knowledge base and search."""
