"""What may forbid an action: the health of what arrives, the limits of what leaves, and the mode of one robot."""
