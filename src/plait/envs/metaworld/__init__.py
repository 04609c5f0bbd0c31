"""The 50 tasks of Meta-World, of the package metaworld. Import from ``env``; this file stays light."""
