"""What can be seen in the miniature's pictures: places, kinds of things, and scenes made of them."""
