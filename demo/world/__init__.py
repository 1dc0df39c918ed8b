"""What can be seen in the demo's images: places, kinds, and scenes made of them."""
