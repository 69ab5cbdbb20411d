"""A package, so that another one of this name, as torch-fidelity and radgraph install it, does not hide it from Ray."""
