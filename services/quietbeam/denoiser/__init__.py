"""Denoise maps while they are scanned: gains, held-out photons, fine-tuning, gate, evidence."""
