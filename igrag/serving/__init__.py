"""The server of `igrag serve`: requests over HTTP are captioned in batches."""
