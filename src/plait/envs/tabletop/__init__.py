"""A gripper over a table with four objects, told in words what to do. Import from ``env``; this file stays light."""
