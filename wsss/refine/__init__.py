"""From CAM to pseudo label: arrays in, arrays out."""
