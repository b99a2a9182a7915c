"""From any picture of digits to the images that MNIST would have made of them. Knows nothing of models or torch."""
