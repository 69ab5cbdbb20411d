"""The basis of every page that emixer serves: address, tokens, headers, request bodies, start and shutdown.

Independent of what is served. Needs the extra `web`.
"""
