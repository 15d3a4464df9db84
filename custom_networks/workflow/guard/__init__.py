"""What stops a run before it starts, or ends it in one sentence."""
