"""English for the miniature: phrases, annotators' captions, and instruction tasks for t5-mini."""
