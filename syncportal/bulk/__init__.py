"""Acts on many rows at once: frozen ids, preview, progress, cancel, and what became of each row."""
