"""Could the data be the cause? A pre-flight of a dataset, with its environment and a policy where there are."""
