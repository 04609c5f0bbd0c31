"""Training: one visible loop for any model with ``loss(batch)``, and the glue that hands it a policy and a dataset."""
