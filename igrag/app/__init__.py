"""The page of `igrag app`: captions of a dropped image, evaluations, and training runs."""
