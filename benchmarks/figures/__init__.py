"""The figures of the documents: measured by commands, written to docs/figures, shown in blocks."""
