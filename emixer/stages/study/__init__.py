"""`emixer study make | serve | report`: a blinded reader study, stage by stage."""
