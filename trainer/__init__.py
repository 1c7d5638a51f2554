"""Reinforcement learning of Hugging Face causal language models with entropy control. Read `trainer.train` first."""
