"""Black-box attacks: they use the model's answers only, or transfer from other networks."""
