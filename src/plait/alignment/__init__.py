"""Alignment: bringing vision and text into one space, and measuring whether they are."""
