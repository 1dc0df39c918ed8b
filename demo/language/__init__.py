"""English for the demo: phrases, annotators' captions, and instruction tasks for t5-mini."""
