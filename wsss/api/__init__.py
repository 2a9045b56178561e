"""The public Python interface: runs, networks, refinement and scores; arrays in, arrays out."""
