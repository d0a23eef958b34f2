"""What every stage shares: words, settings, errors, the Redis conversation. Imports no stage."""
