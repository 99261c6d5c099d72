"""What the server answers besides Gradio's own routes; knows the store, but neither the page nor the engine."""
