"""What leaves this repository: bundles checked, packed, verified, exported and served."""
