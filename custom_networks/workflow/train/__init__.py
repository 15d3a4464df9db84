"""What a training runs besides MONAI: handlers, checkpoints, losses, optimisers, processes."""
