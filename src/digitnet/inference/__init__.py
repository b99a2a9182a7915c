"""From a picture to digits."""
