"""Commands that measure Pinhole against independent implementations; never imported by the application."""
