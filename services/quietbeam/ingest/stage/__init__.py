"""The process: polls sources, keeps runs, writes states, acknowledges."""
