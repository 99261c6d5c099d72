"""The application: parameters, plan, queue, pictures; torch starts in ``pipeline``, gradio in ``ui`` and ``api``."""

__version__ = "0.1.0"
