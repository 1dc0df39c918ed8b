"""Comparison of caption methods: captions, scores, table, chart and report."""
