"""Detect digits in any picture and convert them to MNIST images. Imports neither the models nor torch."""
