"""What the server account may try against a data owner, and what comes of it."""
