"""What is pushed: server-sent events and the websocket of maps."""
