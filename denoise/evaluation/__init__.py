"""How good a model is, on which images, under which protocol, beside which peers."""
