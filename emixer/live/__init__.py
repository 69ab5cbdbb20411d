"""The live page of a trained model: requests, sampling in one thread, and responses.

Needs the extra `web`.
"""
