"""One module and one YAML per published method; the registry reads the YAML alone."""
