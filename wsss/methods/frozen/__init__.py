"""What WeCLIP and its successors share: a decoder that learns on the tokens of a frozen CLIP."""
