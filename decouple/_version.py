"""The version of this package: also of its distribution, and of what it is cited as."""

__version__ = "0.2.0"
