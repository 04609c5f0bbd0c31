"""Recording demonstrations of a scripted expert, in several processes."""
