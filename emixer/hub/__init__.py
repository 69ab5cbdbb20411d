"""Trained models for others: what may leave a run folder, the model card, the Hugging Face Hub."""
