"""The web page of `digitnet.demo`."""
