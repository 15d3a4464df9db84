"""Several trainings that answer one question: run side by side, and go on where they were interrupted."""
