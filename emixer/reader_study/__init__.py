"""A reader study: people score real and generated pairs without knowing which is which.

Source: EMIXER §4.5.3 and figure 2, where two radiologists scored pairs from 1 to 10.
"""
