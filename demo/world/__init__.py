"""What can be seen in the miniature's images: places, kinds, and scenes made of them."""
