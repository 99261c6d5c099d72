"""The engine: networks, sampling, text encoding, memory. Knows torch, and nothing of the application."""
