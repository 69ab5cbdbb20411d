"""The live page of a trained model: what may be asked of it, drawing in one thread, and what is sent back.

Needs the extra `web`.
"""
