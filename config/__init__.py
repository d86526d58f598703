"""The relay's settings: read once at the start, then passed down as plain values."""
