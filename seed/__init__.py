"""Seed Brain: trains a robot's first brain on the robot itself."""
__version__ = "0.1.0"
