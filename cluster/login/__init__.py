"""What a person runs on a login node: the command line, what it shows, a first config."""
