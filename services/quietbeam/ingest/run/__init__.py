"""One run: its documents, in any order, become rows and a state."""
