"""Measuring success: closed loop in an environment, or open loop against held-out demonstrations."""
