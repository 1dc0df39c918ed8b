"""Images of the miniature's scenes: emoji artwork on drawn backgrounds, composed by Pillow."""
