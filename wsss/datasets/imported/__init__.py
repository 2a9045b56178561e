"""Results of other programs: CAMs, labels and logits in the forms that published code writes."""
