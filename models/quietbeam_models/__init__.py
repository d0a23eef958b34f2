"""Networks, losses and pretrained weights of quietbeam; knows nothing of the services."""
