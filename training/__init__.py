"""Training of the miniature model on the picture-book world; nothing here is needed to generate pictures."""
