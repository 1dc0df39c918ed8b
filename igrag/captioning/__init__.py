"""From similar images to a caption: prompt template, language model and generation."""
