"""What can be seen in the miniature's pictures: places, kinds, and scenes made of them."""
