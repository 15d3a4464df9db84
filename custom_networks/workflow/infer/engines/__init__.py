"""Engines: what computes a network at inference, PyTorch itself or OpenVINO on the CPU."""
