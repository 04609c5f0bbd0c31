"""Encoders: ``Inputs`` -> one group of ``Tokens`` per modality."""
