"""The Hydra configs, packaged as digitnet.configs."""
