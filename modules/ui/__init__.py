"""The page, piece by piece: one build function per piece; knows parameters, but neither worker nor engine."""
