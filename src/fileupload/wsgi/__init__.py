"""What every HTTP front of this package needs, once."""
