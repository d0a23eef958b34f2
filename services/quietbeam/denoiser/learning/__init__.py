"""Fine-tuning on the run."""
