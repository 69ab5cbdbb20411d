"""A package, so that others of this name, as torch-fidelity and radgraph install, do not hide it from Ray."""
