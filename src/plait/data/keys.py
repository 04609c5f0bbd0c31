"""What LeRobot calls the parts of an observation and of a dataset's row. Loads nothing."""

STATE = "observation.state"
ACTION = "action"
IMAGE_PREFIX = "observation.images."
