"""chatproxy: keeps chatbot conversations as long, and for what, each person has agreed to."""

__version__ = "0.1.0"
