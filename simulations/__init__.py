"""Small policies whose entropy and reward are known exactly, trained by the very methods of `trainer.methods`."""
