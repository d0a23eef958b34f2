"""What travels through Redis: streams, keys, run states, actions, counters."""
