"""Images of the demo's scenes: emoji artwork on drawn backgrounds, composed by Pillow."""
